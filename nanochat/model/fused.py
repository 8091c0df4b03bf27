"""Fused versions of norm, rotation and attention for training on a CPU, with fewer passes over memory.

A matrix product of a small model takes a CPU about as long as reading its result ten times. Autograd, which sees one
operation at a time, reads and writes much more than that: RMSNorm alone becomes five passes forward and eight backward.
Each function here has a gradient of its own, works in place where that is safe, and saves only what it needs. The
values are those of the plain formulas in layers.py and rotary.py, to rounding (tests/model/test_fused.py).

torch.compile fuses norm and rotation as well, but needs a C++ compiler and a quarter of a minute before the first step.
Each function pays: without it, a step of tiny, small and medium takes longer by 6, 7 and 1 % (norm), 9, 7 and 6 %
(rotation), 33, 21 and 17 % (attention; compiled, tiny: 75 %). A fused MLP brought 2 to 7 % and was dropped
(benchmarks/README.md, "Kernels").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

EPS = torch.finfo(torch.float32).eps  # what F.rms_norm adds where no epsilon is given
# Up to rows of this length, all scores of a head fit into a CPU's caches, and plain products of whole heads are faster
# than torch's tiled kernel. Milliseconds forward and backward, products and kernel (2,048 tokens, 4 heads of 64; for
# 1,024, 4,096 tokens and 8 heads; two cores):
#     float32, AVX2:          64: 8.4, 11.6    128: 11.5, 16.3    256: 19, 23    512: 43, 44      1,024: 460, 216
#     bfloat16, AMX:                           128: 2.0, 10.1                    512: 5.3, 9.8    1,024: 109, 51
#     bfloat16, AVX-512:                       128: 5.1, 12.2                    512: 17.7, 17.1  1,024: 204, 100
SHORT_ROW = {torch.float32: 256, torch.bfloat16: 512}


def applies(x: Tensor) -> bool:
    """Whether to use these functions: on a CPU, in code that is not compiled."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _inverse_rms(x: Tensor) -> Tensor:
    """``1 / sqrt(mean(x^2) + eps)`` of each vector: (..., 1), in the dtype of ``x``."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return length.square_().div_(x.size(-1)).add_(EPS).rsqrt_().to(x.dtype)


def _through_norm(grad: Tensor, y: Tensor) -> Tensor:
    """The gradient of ``y = x s`` with ``s = 1 / rms(x)``, without its factor ``s``.

    ``dx = s (dy - y mean(dy y))``: the component of the gradient along ``y`` vanishes, because the norm undoes it.
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
        scale = _inverse_rms(x)  # a rotation does not change the norm, so the order does not matter
        y = x.new_empty(batch, heads, time, head_dim)
        rotated = y.transpose(1, 2)
        _rotate(x, rotated, cos, sin, 1.0)
        rotated.mul_(scale)
        ctx.save_for_backward(y, scale, cos, sin)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        y, scale, cos, sin = ctx.saved_tensors
        rotated = _through_norm(grad, y).transpose(1, 2).mul_(scale)
        x = torch.empty(rotated.shape, dtype=grad.dtype)
        _rotate(rotated, x, cos, sin, -1.0)  # the inverse rotation
        return x, None, None


def _rotate(x: Tensor, out: Tensor, cos: Tensor, sin: Tensor, direction: float) -> None:
    """Rotary positions, as in :func:`nanochat.model.rotary.rotate`: (batch, time, heads, head_dim) into ``out``."""
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    (x1, x2), (y1, y2) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(x1, cos, out=y1).addcmul_(x2, sin, value=direction)
    torch.mul(x2, cos, out=y2).addcmul_(x1, sin, value=-direction)


def rotate_and_norm(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``norm(rotate(x, cos, sin))``, contiguous in the layout that attention reads.

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
    """Whether to use :func:`attention`: on a CPU, also in compiled code, for short rows without grouped queries."""
    short = query.size(2) <= SHORT_ROW.get(query.dtype, 0)
    return query.device.type == "cpu" and short and query.size(1) == key.size(1)


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, time, head_dim = query.shape
        query, key, value = (x.reshape(batch * heads, time, head_dim) for x in (query, key, value))
        future = torch.full((time, time), -torch.inf, dtype=query.dtype).triu_(1)
        scores = torch.baddbmm(future, query, key.mT, alpha=head_dim**-0.5)
        weights = torch.softmax(scores, -1)
        ctx.save_for_backward(query, key, value, weights)
        return torch.bmm(weights, value).view(batch, heads, time, head_dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, weights = ctx.saved_tensors
        shape, scale = grad.shape, grad.size(-1) ** -0.5
        grad = grad.reshape(query.shape)
        scores = torch._softmax_backward_data(torch.bmm(grad, value.mT), weights, -1, weights.dtype)
        query, key = (
            torch.baddbmm(query, scores, key, beta=0, alpha=scale),
            torch.baddbmm(key, scores.mT, query, beta=0, alpha=scale),
        )
        return query.view(shape), key.view(shape), torch.bmm(weights.mT, grad).view(shape)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal scaled dot-product attention for short rows, by plain matrix products of whole heads.

    Args:
        query: (batch, heads, time, head_dim).
        key: the same shape.
        value: the same shape.

    Returns:
        The same shape.
    """
    y: Tensor = _Attention.apply(query, key, value)
    return y
