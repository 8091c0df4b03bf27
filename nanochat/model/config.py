"""The shape of a model, said once: everything that builds, stores, compares or describes a GPT takes it from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDTH_PER_LAYER = 64  # width = 64 x depth: the rule that every tier of the project follows
# The options of ``fit`` that say the shape, as a checkpoint's hyperparameters and a run's config.yaml hold them.
OPTIONS = ("depth", "width", "heads", "kv_heads", "vocab_size", "context")


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. The fields are those of nanochat's own ``GPTConfig``, under its names.

    Attributes:
        sequence_len: the longest row of tokens that the model reads; elsewhere in this project: the context.
        vocab_size: number of token ids.
        n_layer: number of transformer blocks; the option ``--model.depth``.
        n_head: number of query heads.
        n_kv_head: number of key and value heads; fewer than ``n_head`` for grouped-query attention.
        n_embd: size of the residual stream; the option ``--model.width``.

    Raises:
        ValueError: if the numbers do not fit each other, in one line that says what would.
    """

    sequence_len: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_kv_head: int
    n_embd: int

    def __post_init__(self) -> None:
        if self.vocab_size < 1:
            raise ValueError(f"the vocabulary must hold at least one token, not {self.vocab_size}")
        if self.sequence_len < 1:
            raise ValueError(f"the context must be at least one token, not {self.sequence_len}")
        if self.n_layer < 1:
            raise ValueError(f"the depth must be at least 1, not {self.n_layer}")
        if self.n_embd < 1:
            raise ValueError(f"the width must be at least 1, not {self.n_embd}")
        if self.n_head < 1 or self.n_embd % self.n_head:
            raise ValueError(f"a width of {self.n_embd} does not divide into {self.n_head} heads")
        if self.head_dim % 2:
            raise ValueError(
                f"heads of {self.head_dim} cannot be rotated in pairs: width / heads must be even "
                f"(width {self.n_embd}, {self.n_head} heads)"
            )
        if self.n_kv_head < 1 or self.n_head % self.n_kv_head:
            raise ValueError(
                f"{self.n_head} query heads do not divide into groups for {self.n_kv_head} key/value heads"
            )

    @property
    def head_dim(self) -> int:
        """Numbers in a head."""
        return self.n_embd // self.n_head

    @classmethod
    def from_options(
        cls,
        depth: int,
        vocab_size: int,
        context: int,
        width: int | None = None,
        heads: int | None = None,
        kv_heads: int | None = None,
    ) -> GPTConfig:
        """The one dial: the depth alone gives a sensible shape; what is None follows from it.

        Args:
            depth: number of blocks.
            vocab_size: number of token ids.
            context: the longest row of tokens.
            width: size of the residual stream; 64 x depth if None.
            heads: number of query heads; heads of 64 (128 above width 768) if None.
            kv_heads: number of key and value heads, a divisor of ``heads``; as many as ``heads`` if None.

        Raises:
            ValueError: if the numbers do not fit each other.
        """
        width = WIDTH_PER_LAYER * depth if width is None else width
        if heads is None and depth >= 1 and width >= 1:
            heads = _default_heads(width)
        heads = 1 if heads is None else heads  # the depth or the width is refused below
        kv_heads = heads if kv_heads is None else kv_heads
        return cls(context, vocab_size, depth, heads, kv_heads, width)

    @classmethod
    def from_hyperparameters(cls, saved: Mapping[str, Any]) -> GPTConfig:
        """The shape in a checkpoint's hyperparameters or in a ``config.yaml``; other entries are ignored.

        Raises:
            KeyError: if the depth, the vocabulary or the context is missing.
            ValueError: if the numbers do not fit each other.
        """
        return cls.from_options(
            saved["depth"],
            saved["vocab_size"],
            saved["context"],
            saved.get("width"),
            saved.get("heads"),
            saved.get("kv_heads"),
        )

    def to_hyperparameters(self) -> dict[str, int]:
        """The options that give this shape, each said."""
        return {
            "depth": self.n_layer,
            "width": self.n_embd,
            "heads": self.n_head,
            "kv_heads": self.n_kv_head,
            "vocab_size": self.vocab_size,
            "context": self.sequence_len,
        }


def default_head_dim(width: int) -> int:
    """64 up to width 768, 128 above it where 128 divides the width (the 560M model has heads of 128)."""
    return 128 if width > 768 and width % 128 == 0 else 64


def _default_heads(width: int) -> int:
    head_dim = default_head_dim(width)
    if width % head_dim:
        below = max(width // head_dim, 1) * head_dim
        raise ValueError(
            f"a width of {width} does not divide into heads of {head_dim}: "
            f"take {below} or {below + head_dim}, or give the number of heads (--model.heads)"
        )
    return width // head_dim
