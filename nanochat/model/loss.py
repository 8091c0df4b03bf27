"""The cross-entropy loss, computed in chunks so that all logits never exist at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

IGNORE = -1  # targets of this value have no loss: padding, or the user's part of a conversation
SOFTCAP = 15.0  # nanochat's; bounds the loss of one over-confident logit
CHUNK_ELEMENTS = 2**25  # logits in a chunk of scoring: 128 MiB in float32
CPU_CHUNK_ELEMENTS = 2**19  # logits in a chunk of training on a CPU: 2 MiB, which stay in its caches
# Each chunk reads and writes the gradient of the whole head, so chunks must not be too small: with a vocabulary of
# 65,536, 512 tokens took 2.1 s in chunks of 8 tokens, 0.59 s in chunks of 64, 0.51 s in chunks of 256 (two cores,
# bfloat16); with 8,192, 99 ms in chunks of 64 and 69 ms in chunks of 256.
CPU_CHUNK_ROWS = 256
# Logits in a chunk of training on a GPU: 512 MiB in bfloat16. With a vocabulary of 65,536 and 65,536 tokens, the
# gradient of the head (1 GB) is read and written 16 times; in chunks of 2**25 it would be 128 times.
GPU_CHUNK_ELEMENTS = 2**28


def softcap(logits: Tensor) -> Tensor:
    """``15 * tanh(logits / 15)``, in float32: bounded logits with a slope of 1 at zero."""
    return SOFTCAP * torch.tanh(logits.float() / SOFTCAP)


def token_losses(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each target, in nats, float32; 0 where the target is :data:`IGNORE`.

    With a vocabulary of 65,536 the logits of one batch would take more memory than the model. Where there are
    too many, they are computed in chunks that are freed, and recomputed in the backward pass.

    Args:
        hidden: (tokens, width), the normed output of the last block.
        head: (vocabulary, width), the matrix of the output head.
        targets: (tokens,), int64.

    Returns:
        (tokens,)
    """

    def chunk_losses(hidden: Tensor, targets: Tensor) -> Tensor:
        logits = softcap(F.linear(hidden, head))
        return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")

    rows = max(1, CHUNK_ELEMENTS // head.size(0))
    if hidden.size(0) <= rows:
        return chunk_losses(hidden, targets)
    losses = [
        checkpoint(chunk_losses, h, t, use_reentrant=False)
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(losses)


def weighted_loss(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    compiled: bool = False,
) -> tuple[Tensor, Tensor]:
    """``sum(weights * token_losses(hidden, head, targets))``, for training.

    The weights are known in the forward pass, so the gradients are as well, up to the factor of the backward pass: they
    are computed while a chunk's logits exist, and logits are neither stored nor computed twice.

    Args:
        hidden: (tokens, width), the normed output of the last block.
        head: (vocabulary, width), the matrix of the output head.
        targets: (tokens,), int64; those that are :data:`IGNORE` have no loss.
        weights: (tokens,), float32; for a mean, 1 / count each.
        compiled: on a GPU, whether to compile the operations between the matrix products, which then read the logits
            once instead of a dozen times. (On a CPU, where a chunk stays in the caches, it makes no difference.)

    Returns:
        The loss, a scalar with a gradient; and the loss of each token, (tokens,), float32, without one.
    """
    loss, losses = _WeightedLoss.apply(hidden, head.to(hidden.dtype), targets, weights, compiled and hidden.is_cuda)
    return loss, losses


class _WeightedLoss(Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        weights: Tensor,
        compiled: bool,
    ) -> tuple[Tensor, Tensor]:
        elements = {"cpu": CPU_CHUNK_ELEMENTS, "cuda": GPU_CHUNK_ELEMENTS}.get(hidden.device.type, CHUNK_ELEMENTS)
        rows = max(CPU_CHUNK_ROWS if hidden.device.type == "cpu" else 1, elements // head.size(0))
        weights = weights.float().masked_fill(targets == IGNORE, 0.0)
        hidden_grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        head_grad = torch.zeros_like(head, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        through = _compiled() if compiled else loss_and_gradient
        losses = []
        for start in range(0, hidden.size(0), rows):
            chunk = slice(start, start + rows)
            logits = F.linear(hidden[chunk], head)
            chunk_losses, grad = through(logits, targets[chunk].clamp(min=0).unsqueeze(1), weights[chunk].unsqueeze(1))
            losses.append(chunk_losses)
            if hidden_grad is not None:
                torch.mm(grad, head, out=hidden_grad[chunk])
            if head_grad is not None:
                _add_product(head_grad, grad.t(), hidden[chunk])
        ctx.save_for_backward(hidden_grad, head_grad)
        ctx.head_dtype = head.dtype
        token_losses = torch.cat(losses)
        token_losses.masked_fill_(targets == IGNORE, 0.0)
        ctx.mark_non_differentiable(token_losses)
        return (token_losses * weights).sum(), token_losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, head_grad = ctx.saved_tensors
        return (
            None if hidden_grad is None else hidden_grad * grad,
            None if head_grad is None else (head_grad * grad).to(ctx.head_dtype),
            None,
            None,
            None,
        )


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right``, accumulated in float32 where the library supports it."""
    if total.is_cuda and left.dtype in (torch.bfloat16, torch.float16):
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total += left @ right


def loss_and_gradient(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy under the soft cap, and the gradient of its weighted sum.

    Args:
        logits: (tokens, vocabulary), before the cap; may be overwritten.
        targets: (tokens, 1), int64.
        weights: (tokens, 1), float32: the weight of each token's loss.

    Returns:
        The loss of each token, (tokens,), float32; and the gradient of the logits, in their shape and dtype.
    """
    capped = logits.float().mul_(1 / SOFTCAP).tanh_()  # without the factor SOFTCAP
    grad = (capped * SOFTCAP).exp_()  # at most exp(15): no maximum has to be subtracted first
    target = SOFTCAP * capped.gather(1, targets)
    total = grad.sum(1, keepdim=True)
    losses = (total.log() - target).squeeze(1)
    # the gradient of the capped logits is softmax - one-hot, and the derivative of tanh is 1 - tanh^2
    grad.mul_(weights / total)
    if torch.compiler.is_compiling():  # fused into the pass over the logits; a scatter would be a pass of its own
        grad = grad - weights * (torch.arange(logits.size(1), device=logits.device) == targets)
    else:
        grad.scatter_add_(1, targets, -weights)
    return losses, torch.addcmul(grad, grad, capped.square_(), value=-1).to(logits.dtype)


@cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(loss_and_gradient, dynamic=False)
