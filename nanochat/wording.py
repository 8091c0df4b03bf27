"""Text for the terminal: a number with its noun, and untrusted text on one line."""

from __future__ import annotations


def plural(count: float, noun: str) -> str:
    """ "1 run", "1,200 runs", "2.5 minutes" """
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {noun}{'' if count == 1 else 's'}"


def one_line(text: object) -> str:
    """The text without line breaks and control characters, for text that may quote a damaged file."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
