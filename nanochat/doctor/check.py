"""One line of the examination."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "note", "problem"]
OK: Status = "ok"
NOTE: Status = "note"  # it works without
PROBLEM: Status = "problem"  # it does not


@dataclass(frozen=True)
class Check:
    """What was looked at, and what came of it.

    Attributes:
        name: of what was looked at, in a word or two.
        status: ok; note, where something could be better; problem, where something necessary is missing.
        found: what there is, in words.
        advice: what to do; "" where there is nothing to do.
        facts: the same for programs.
    """

    name: str
    status: Status
    found: str
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def format_bytes(size: float) -> str:
    """Bytes: 850 MB, 1.2 GB"""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
