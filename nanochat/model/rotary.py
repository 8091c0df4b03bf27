"""Rotary position embedding (RoFormer, arXiv 2104.09864), in nanochat's direction."""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10_000.0  # nanochat's; `export` writes it down


def rotation_table(positions: int, head_dim: int, base: float = BASE) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle of every pair at every position.

    Pair ``i`` rotates by ``base ** (-2 i / head_dim)`` radians per position: the first pair completes a turn in about
    six tokens, the last one in tens of thousands, so that near and far distances can both be read off.

    Args:
        positions: number of positions, from 0: the context.
        head_dim: numbers in a head, an even number: half as many pairs.
        base: the larger, the slower the last pairs rotate.

    Returns:
        Two float32 tensors of shape (positions, head_dim / 2), on the CPU even if a model is built on the meta device:
        there, a power would make torch import its compiler, which takes three quarters of a second.
    """
    frequency = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim)
    angle = torch.outer(torch.arange(positions, dtype=torch.float32, device="cpu"), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates each pair (x1, x2) of a head by its position's angle.

    x1 and x2 come from the head's two halves, and the direction is the opposite of Llama's:
    ``y1 = x1 cos + x2 sin``, ``y2 = x2 cos - x1 sin``. Only the difference of two positions matters to
    attention, so both directions are equally good; this is the one of published nanochat checkpoints.

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
