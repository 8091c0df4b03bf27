"""What a trace is made of: steps, each with a sentence for the learner, shapes, figures and the code that does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from nanochat.tokenizer import Tokenizer
from nanochat.tracing.source import Source


@dataclass
class Vector:
    """The first few numbers of a vector, and its length."""

    label: str
    values: list[float]
    length: float
    size: int


@dataclass
class Table:
    """Rows of text under column titles."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class BarChart:
    """Shares from 0 to 1 with a name each."""

    title: str
    rows: list[tuple[str, float]]


@dataclass
class AttentionMaps:
    """Which tokens look at which, by heads: (heads, time, time) shares, rows looking at columns."""

    tokens: list[str]
    shares: Tensor


Figure = Vector | Table | BarChart | AttentionMaps


@dataclass
class Section:
    """One stage of the way.

    Attributes:
        title: of the stage.
        text: one or two sentences on what happens and why.
        sources: the statements that compute it.
        shapes: name and shape of what is there then.
        figures: what to look at.
        note: what else should be known, such as which of two formulas ran.
    """

    title: str
    text: str
    sources: list[Source]
    shapes: list[tuple[str, Sequence[int]]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    note: str = ""


@dataclass
class Chapter:
    """Steps that belong together, under a heading."""

    title: str
    text: str
    steps: list[Section]


def numbers(label: str, vector: Tensor, count: int = 5) -> Vector:
    """The first numbers of a vector of any size, and its Euclidean length."""
    vector = vector.detach().float().flatten()
    return Vector(label, vector[:count].tolist(), float(vector.norm()), vector.numel())


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """A token as a person can read it: ' list', '\\n', '\\xe2' for a byte that is no text by itself, <|bos|>."""
    special = {number: name for name, number in tokenizer.special_tokens.items()}
    if token in special:
        return special[token]
    raw = tokenizer.decode_bytes([token])
    if not raw:
        return f"<{token}>"  # an id that stands for nothing
    try:
        return repr(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(raw)[1:]


def number(value: float) -> str:
    """0.12, -1.4, 3.2e-05: two or three figures that mean something."""
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e5):
        return f"{value:.1e}"
    return f"{value:.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.2f}"


def percent(share: float) -> str:
    """0.4 %, 12 %"""
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def shape_text(shape: Sequence[int]) -> str:
    return "(" + ", ".join(f"{n:,}" for n in shape) + ("," if len(shape) == 1 else "") + ")"
