"""The formulas of the model once more, for training on a CPU: with fewer passes over memory.

A matrix product of a small model takes a CPU about as long as reading its result ten times. Autograd, which knows each
operation by itself, reads and writes much more than that: RMSNorm alone becomes five passes forward and eight backward.
Here each function says its own gradient, works in place where nobody else looks, and leaves out what is not needed.
The values are those of the plain formulas in layers.py, loss.py and rotary.py, to rounding (tests/model/test_fused.py).

torch.compile does the same on its own, and a little better, but needs a compiler on the machine and a quarter of a
minute before the first step: training/compiling.py says when that pays.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

EPS = torch.finfo(torch.float32).eps  # what F.rms_norm adds where no epsilon is given
# Up to rows of this length, all scores of a head fit into a CPU's caches, and plain products of whole heads take less
# time than torch's kernel, which goes through them in tiles: forward and backward, in float32 8.4 instead of 11.6 ms
# for rows of 64, 11.5 instead of 16.3 ms for 128, 19 instead of 23 ms for 256; but 43 and 44 ms for 512, and 460 and
# 216 ms for 1,024 (2,048 tokens, 4 heads of 64; for 1,024, 4,096 tokens and 8 heads; two cores with AVX2). In
# bfloat16 the kernel's backward is slower: 2.0 instead of 10.1 ms for 128, 5.3 instead of 9.8 ms for 512, 109 and
# 51 ms for 1,024 (two cores with AMX; with AVX-512 alone 5.1 and 12.2, 17.7 and 17.1, 204 and 100 ms).
SHORT_ROW = {torch.float32: 256, torch.bfloat16: 512}


def applies(x: Tensor) -> bool:
    """Whether these functions are to be used: on a CPU, where nothing else fuses the operations."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _inverse_rms(x: Tensor) -> Tensor:
    """``1 / sqrt(mean(x^2) + eps)`` of each vector: (..., 1), in the dtype of ``x``."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return length.square_().div_(x.size(-1)).add_(EPS).rsqrt_().to(x.dtype)


def _through_norm(grad: Tensor, y: Tensor) -> Tensor:
    """What the gradient of ``y = x s`` with ``s = 1 / rms(x)`` becomes for ``x``, but for the factor ``s``.

    ``dx = s (dy - y mean(dy y))``: the part of the gradient along ``y`` is lost, because the norm undoes it.
    """
    along = (grad * y).sum(-1, keepdim=True).div_(-y.size(-1))
    return torch.addcmul(grad, y, along)


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = _inverse_rms(x)
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y, scale = ctx.saved_tensors
        return _through_norm(grad, y).mul_(scale)


def norm(x: Tensor) -> Tensor:
    """:func:`nanochat.model.layers.norm`: RMSNorm over the last dimension."""
    y: Tensor = _RMSNorm.apply(x)
    return y


class _RotateNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, heads, head_dim = x.shape
        scale = _inverse_rms(x)  # a rotation changes no length, so it may come before or after
        y = x.new_empty(batch, heads, time, head_dim)
        turned = y.transpose(1, 2)
        _turn(x, turned, cos, sin, 1.0)
        turned.mul_(scale)
        ctx.save_for_backward(y, scale, cos, sin)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        y, scale, cos, sin = ctx.saved_tensors
        turned = _through_norm(grad, y).transpose(1, 2).mul_(scale)
        x = torch.empty(turned.shape, dtype=grad.dtype)
        _turn(turned, x, cos, sin, -1.0)  # back
        return x, None, None


def _turn(x: Tensor, out: Tensor, cos: Tensor, sin: Tensor, direction: float) -> None:
    """Rotary positions, as in :func:`nanochat.model.rotary.rotate`: (batch, time, heads, head_dim) into ``out``."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    (x1, x2), (y1, y2) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(x1, cos, out=y1).addcmul_(x2, sin, value=direction)
    torch.mul(x2, cos, out=y2).addcmul_(x1, sin, value=-direction)


def rotate_and_norm(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``norm(rotate(x, cos, sin))``, its result in the layout that attention reads best.

    Args:
        x: (batch, time, heads, head_dim); any strides.
        cos: (time, head_dim / 2) or (batch, time, head_dim / 2), in the dtype of ``x``.
        sin: the same shape.

    Returns:
        (batch, heads, time, head_dim), contiguous.
    """
    y: Tensor = _RotateNorm.apply(x, cos, sin)
    return y


def attends_by_products(query: Tensor, key: Tensor) -> bool:
    """Whether :func:`attention` is to be used: on a CPU, also compiled, for short rows without grouped queries."""
    short = query.size(2) <= SHORT_ROW.get(query.dtype, 0)
    return query.device.type == "cpu" and short and query.size(1) == key.size(1)


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, time, head_dim = query.shape
        query, key, value = (x.reshape(batch * heads, time, head_dim) for x in (query, key, value))
        future = torch.full((time, time), -torch.inf, dtype=query.dtype).triu_(1)
        scores = torch.baddbmm(future, query, key.mT, alpha=head_dim**-0.5)
        shares = torch.softmax(scores, -1)
        ctx.save_for_backward(query, key, value, shares)
        return torch.bmm(shares, value).view(batch, heads, time, head_dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, shares = ctx.saved_tensors
        shape, scale = grad.shape, grad.size(-1) ** -0.5
        grad = grad.reshape(query.shape)
        scores = torch._softmax_backward_data(torch.bmm(grad, value.mT), shares, -1, shares.dtype)
        query, key = (
            torch.baddbmm(query, scores, key, beta=0, alpha=scale),
            torch.baddbmm(key, scores.mT, query, beta=0, alpha=scale),
        )
        return query.view(shape), key.view(shape), torch.bmm(shares.mT, grad).view(shape)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal scaled dot-product attention within short rows (:func:`attends_by_products`).

    Args:
        query: (batch, heads, time, head_dim).
        key: the same shape.
        value: the same shape.

    Returns:
        The same shape.
    """
    y: Tensor = _Attention.apply(query, key, value)
    return y


class _MLP(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, expand: Tensor, contract: Tensor) -> Tensor:
        positive = torch.mm(x, expand.t()).relu_()
        squares = positive * positive
        ctx.save_for_backward(x, expand, contract, positive, squares)
        return torch.mm(squares, contract.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, expand, contract, positive, squares = ctx.saved_tensors
        inner = torch.mm(grad, contract).mul_(positive).mul_(2)  # relu(h)^2 has the slope 2 relu(h)
        return torch.mm(inner, expand), torch.mm(inner.t(), x), torch.mm(grad.t(), squares)


def mlp(x: Tensor, expand: Tensor, contract: Tensor) -> Tensor:
    """``relu(x expand^T)^2 contract^T``.

    Args:
        x: (..., width).
        expand: (inner, width); taken in the dtype of ``x``.
        contract: (width, inner); taken in the dtype of ``x``.

    Returns:
        A tensor like ``x``.
    """
    y: Tensor = _MLP.apply(x.reshape(-1, x.size(-1)), expand.to(x.dtype), contract.to(x.dtype))
    return y.view_as(x)
