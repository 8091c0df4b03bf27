"""Records of a corpus that cannot be used: each is skipped and counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanochat.wording import plural


@dataclass
class BadRecords:
    """Counts bad records, and keeps the first one of each file.

    Attributes:
        first: for each file, the location of its first bad record and what is wrong with it.
        counts: number of bad records in each file.
    """

    first: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, path: Path, location: str | Callable[[], str], why: str) -> None:
        """Counts a bad record. A location that is slow to compute may be a function, called for the first one only."""
        name = str(path)
        if name not in self.first:
            self.first[name] = f"{location if isinstance(location, str) else location()}: {why}"
        self.counts[name] = self.counts.get(name, 0) + 1

    @property
    def total(self) -> int:
        """Number of bad records in all files."""
        return sum(self.counts.values())

    def lines(self, most: int = 3) -> list[str]:
        """Messages for the user: a line for each of the first few files, and one for all others."""
        lines = [
            f"{name}: left out {plural(count, 'bad record')}, the first: {self.first[name]}"
            for name, count in list(self.counts.items())[:most]
        ]
        others = list(self.counts.values())[most:]
        return lines + ([f"... and {sum(others):,} bad records in {len(others):,} more files"] if others else [])


def bad_text(text: Any, column: str) -> str:
    """The reason why a record's text is bad; empty if it is good."""
    if text is None:
        return f'no "{column}"'
    if not isinstance(text, str):
        return f'"{column}" does not hold text'
    if not text or text.isspace():
        return "an empty text"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "a lone surrogate, which is not valid Unicode"
    return ""
