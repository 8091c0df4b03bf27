"""Wraps sentences to 80 columns and formats confidence intervals, for the tables that `evaluate` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 80


def wrap(sentence: str) -> list[str]:
    """Wraps a sentence into lines; names, paths and addresses are never split."""
    return textwrap.wrap(sentence, WIDTH, break_on_hyphens=False, break_long_words=False)


def format_interval(interval: Sequence[float]) -> str:
    """Formats an interval of accuracies in percent: 4.2-15.1%"""
    low, high = interval
    return f"{100 * low:.1f}-{high:.1%}"
