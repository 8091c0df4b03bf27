"""The one dial: from the depth alone, the width and the heads of a sensible model."""

from __future__ import annotations

from typing import NamedTuple

WIDTH_PER_LAYER = 64  # width = 64 x depth: the rule that every tier of the project follows


class Shape(NamedTuple):
    """The sizes that a GPT is built from, all of them decided."""

    depth: int
    width: int
    heads: int
    kv_heads: int

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


def default_head_dim(width: int) -> int:
    """64 up to width 768, 128 above it where 128 divides the width (the 560M model has heads of 128)."""
    return 128 if width > 768 and width % 128 == 0 else 64


def resolve_shape(depth: int, width: int | None = None, heads: int | None = None, kv_heads: int | None = None) -> Shape:
    """Fills in what was left out, and refuses what cannot be built.

    Args:
        depth: number of transformer blocks, at least 1.
        width: size of the residual stream; 64 x depth if None.
        heads: number of query heads; heads of 64 (128 above width 768) if None.
        kv_heads: number of key and value heads, a divisor of ``heads``; as many as ``heads`` if None.

    Raises:
        ValueError: if the numbers do not divide each other, in one line that says what would.
    """
    if depth < 1:
        raise ValueError(f"the depth must be at least 1, not {depth}")
    if width is None:
        width = WIDTH_PER_LAYER * depth
    if width < 1:
        raise ValueError(f"the width must be at least 1, not {width}")
    if heads is None:
        head_dim = default_head_dim(width)
        if width % head_dim:
            below = max(width // head_dim, 1) * head_dim
            raise ValueError(
                f"a width of {width} does not divide into heads of {head_dim}: "
                f"take {below} or {below + head_dim}, or give the number of heads (--model.heads)"
            )
        heads = width // head_dim
    if heads < 1 or width % heads:
        raise ValueError(f"a width of {width} does not divide into {heads} heads")
    if (width // heads) % 2:
        raise ValueError(
            f"heads of {width // heads} cannot be rotated in pairs: width / heads must be even "
            f"(width {width}, {heads} heads)"
        )
    if kv_heads is None:
        kv_heads = heads
    if kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"{heads} query heads do not divide into groups for {kv_heads} key/value heads")
    return Shape(depth, width, heads, kv_heads)
