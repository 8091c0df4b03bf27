"""Scores as a terminal of 80 columns shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 80
GAP = "  "


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells: the first of each row is a name, all others are numbers and stand to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        return GAP.join([row[0].ljust(widths[0]), *numbers])

    return [line(row) for row in rows]


def wrapped(sentence: str) -> list[str]:
    """The lines of a sentence; no name, path or address is torn apart."""
    return textwrap.wrap(sentence, WIDTH, break_on_hyphens=False, break_long_words=False)


def percents(interval: Sequence[float]) -> str:
    """4.2-15.1%"""
    low, high = interval
    return f"{100 * low:.1f}-{high:.1%}"
