"""Prints messages on rank 0, and formats numbers for them."""

from __future__ import annotations

import sys

from tqdm import tqdm


def say(text: str = "") -> None:
    """Prints on rank 0, above the progress bar if there is one."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only  # takes seconds to import

    if getattr(rank_zero_only, "rank", 0) == 0:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


def table(title: str, rows: dict[str, str]) -> str:
    """A title, and a line with name and value for each row."""
    width = max(map(len, rows)) + 2
    return "\n".join([title, *(f"  {name:<{width}}{value}" for name, value in rows.items())])


def duration(seconds: float) -> str:
    """A duration in words: 42 s, 4 min 10 s, 2 h 5 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600:,} h {seconds % 3600 // 60} min"


def clock(seconds: float) -> str:
    """A duration as on a clock: 0:42, 4:10, 2:05:00."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def count(number: float) -> str:
    """A number with three digits: 950, 8,192, 81.9K, 1.95M, 3.28B, 1.2e+15."""
    if number < 1e4:
        return f"{number:,.0f}"
    for size, letter in ((1e3, "K"), (1e6, "M"), (1e9, "B"), (1e12, "T")):
        if number < 1000 * size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.2g}"


def size(number: float) -> str:
    """A number of bytes: 850 MB, 1.2 GB."""
    if number < 1e6:
        return f"{number / 1e3:.0f} KB"
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def as_markdown(text: str) -> str:
    """A text as a Markdown code block, because TensorBoard renders texts as Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())
