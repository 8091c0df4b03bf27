"""Sentences and intervals beside a table of scores, as a terminal of 80 columns shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 80


def wrapped(sentence: str) -> list[str]:
    """The lines of a sentence; no name, path or address is torn apart."""
    return textwrap.wrap(sentence, WIDTH, break_on_hyphens=False, break_long_words=False)


def percents(interval: Sequence[float]) -> str:
    """4.2-15.1%"""
    low, high = interval
    return f"{100 * low:.1f}-{high:.1%}"
