"""The content of a trace: chapters of sections, each with text, shapes, figures and the code that it explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from nanochat.tokenizer import Tokenizer
from nanochat.tracing.source import Source


@dataclass
class Vector:
    """The first numbers of a vector.

    Attributes:
        label: names the vector.
        values: its first numbers.
        norm: Euclidean norm of the whole vector.
        size: how many numbers the whole vector has.
    """

    label: str
    values: list[float]
    norm: float
    size: int


@dataclass
class Table:
    """Rows of text under column titles."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class BarChart:
    """Named probabilities, from 0 to 1."""

    title: str
    rows: list[tuple[str, float]]


@dataclass
class AttentionMaps:
    """Attention weights, (heads, time, time): a row for each query, a column for each key."""

    tokens: list[str]
    weights: Tensor


Figure = Vector | Table | BarChart | AttentionMaps


@dataclass
class Section:
    """One operation of the model, or one phase of a training step.

    Attributes:
        title: names the operation.
        text: a few sentences on what is computed and why.
        sources: the statements that compute it.
        shapes: name and shape of each tensor.
        figures: the values.
        note: a remark, such as which of two implementations ran.
    """

    title: str
    text: str
    sources: list[Source]
    shapes: list[tuple[str, Sequence[int]]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    note: str = ""


@dataclass
class Chapter:
    """Sections under a common heading, with an introduction that may be empty."""

    title: str
    text: str
    sections: list[Section]


def vector(label: str, values: Tensor, count: int = 5) -> Vector:
    """The first ``count`` numbers of a tensor of any shape, and the norm of all."""
    values = values.detach().float().flatten()
    return Vector(label, values[:count].tolist(), float(values.norm()), values.numel())


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """A token in printable form: ' list', '\\n', '\\xe2' for an incomplete UTF-8 character, <|bos|>."""
    special = {token_id: name for name, token_id in tokenizer.special_tokens.items()}
    if token in special:
        return special[token]
    raw = tokenizer.decode_bytes([token])
    if not raw:
        return f"<{token}>"  # an unused id
    try:
        return repr(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(raw)[1:]


def format_number(value: float) -> str:
    """0.12, -1.40, 123.4, 3.2e-05."""
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e5):
        return f"{value:.1e}"
    return f"{value:.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.2f}"


def format_percent(share: float) -> str:
    """0.4 %, 12 %."""
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def format_shape(shape: Sequence[int]) -> str:
    """(1, 12, 256), as Python writes a tuple, with thousands separators."""
    return "(" + ", ".join(f"{n:,}" for n in shape) + ("," if len(shape) == 1 else "") + ")"
