"""Words for a terminal: a number with its noun, and what others wrote on one line."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """ "1 run", "1,200 runs" """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def one_line(text: object) -> str:
    """The text without line breaks and control characters: it may quote what a damaged file says."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
