"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "note", "problem"]
OK: Status = "ok"
NOTE: Status = "note"  # training works without it
PROBLEM: Status = "problem"  # training does not


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: of the thing checked, in a word or two.
        status: "ok"; "note" if something could be better; "problem" if something necessary is missing.
        found: the finding, in words.
        advice: what to do about it; "" if there is nothing to do.
        facts: the finding as values, for --json.
    """

    name: str
    status: Status
    found: str
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def format_bytes(size: float) -> str:
    """Formats a number of bytes: "850 MB", "1.2 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
