"""From the last hidden states to the loss, without ever holding more logits than needed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

IGNORE = -1  # a target of this value asks for nothing: padding, or what the user said in a chat
SOFTCAP = 15.0  # nanochat's; keeps one over-confident logit from blowing up the loss
CHUNK_ELEMENTS = 2**25  # at most this many logits at a time: 128 MiB in float32


def softcap(logits: Tensor) -> Tensor:
    """``15 * tanh(logits / 15)``, in float32: bounded logits with a slope of 1 at zero."""
    return SOFTCAP * torch.tanh(logits.float() / SOFTCAP)


def token_losses(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each target, in nats, float32; 0 where the target is :data:`IGNORE`.

    With a vocabulary of 65,536 the logits of one batch would take more memory than the model. Where there are
    too many, the rows go through in chunks whose logits are forgotten and computed again in the backward pass.

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
