"""Rotary position embedding (RoFormer, arXiv 2104.09864), turned nanochat's way round."""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10_000.0  # nanochat's; `export` writes it down


def rotation_table(positions: int, head_dim: int, base: float = BASE) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of every pair at every position.

    Pair ``i`` turns by ``base ** (-2 i / head_dim)`` radians a position: the first pair goes round in about
    six tokens, the last one in tens of thousands, so that near and far distances are both legible.

    Args:
        positions: how many, from 0 on: the context.
        head_dim: numbers in a head, an even number: half as many pairs.
        base: the larger, the slower the last pairs turn.

    Returns:
        Two float32 tensors of shape (positions, head_dim / 2), on the CPU also where a model is made on the meta
        device: there a power makes torch import its compiler, which takes three quarters of a second.
    """
    frequency = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim)
    angle = torch.outer(torch.arange(positions, dtype=torch.float32, device="cpu"), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair (x1, x2) of a head by its position's angle.

    The pair is made of the head's two halves, and the direction is the opposite of Llama's:
    ``y1 = x1 cos + x2 sin``, ``y2 = x2 cos - x1 sin``. Only the difference of two positions matters to
    attention, so both directions are equally good; ours has to be the one of published checkpoints.

    Args:
        x: (batch, time, heads, head_dim).
        cos: (time, head_dim / 2) or (batch, time, head_dim / 2), in the dtype of ``x``.
        sin: the same shape.

    Returns:
        A tensor like ``x``.
    """
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)  # the same rotation for each head
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin), dim=-1)
