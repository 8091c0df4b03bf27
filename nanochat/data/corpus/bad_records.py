"""Records that are no good, of which each is left out and counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanochat.wording import plural


@dataclass
class BadRecords:
    """Counts the records that were left out, and remembers the first of each file.

    Attributes:
        first: for each file, where its first bad record is and what is wrong with it.
        counts: bad records of each file.
    """

    first: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, path: Path, place: str | Callable[[], str], why: str) -> None:
        """Counts a bad record; its place may be a function, if finding it out takes time: only the first is asked."""
        name = str(path)
        if name not in self.first:
            self.first[name] = f"{place if isinstance(place, str) else place()}: {why}"
        self.counts[name] = self.counts.get(name, 0) + 1

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def lines(self, most: int = 3) -> list[str]:
        """What to tell the user: a line for each of the first few files, and one for the others."""
        said = [
            f"{name}: left out {plural(count, 'bad record')}, the first: {self.first[name]}"
            for name, count in list(self.counts.items())[:most]
        ]
        others = list(self.counts.values())[most:]
        return said + ([f"... and {sum(others):,} bad records in {len(others):,} more files"] if others else [])


def bad_text(text: Any, column: str) -> str:
    """What is wrong with a record's text; nothing if it is good."""
    if text is None:
        return f'no "{column}"'
    if not isinstance(text, str):
        return f'"{column}" does not hold text'
    if not text or text.isspace():
        return "an empty text"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "half of a surrogate pair, which is no character"
    return ""
