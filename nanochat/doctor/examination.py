"""All checks, in the order in which they are told."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanochat.cache import cache_root
from nanochat.doctor import machine, packages, surroundings, torch_says
from nanochat.doctor.check import NOTE, OK, PROBLEM, Check

MARKS = {OK: "ok", NOTE: "note", PROBLEM: "PROBLEM"}
NAME_WIDTH = 12


def examine(root: Path) -> Iterator[Check]:
    """Everything that can be looked at, a check at a time.

    Args:
        root: the folder that lightning_logs is in, or will be.
    """
    yield packages.python()
    yield from packages.packages(packages.requirements())
    facts = torch_says.ask()
    yield torch_says.processor(facts)
    yield machine.threads(facts.get("threads"))
    yield torch_says.speed(facts)
    yield torch_says.gpu(facts)
    yield machine.memory()
    yield machine.disk("disk", root / "lightning_logs", "give --trainer.default_root_dir another folder")
    with suppress(ValueError):  # of one without a home folder, which the next line says
        yield machine.disk("cache disk", cache_root(), "set NANOCHAT_CACHE to another folder")
    yield surroundings.cache()
    yield surroundings.compiler()
    yield surroundings.hub()
    yield surroundings.terminal()
    yield surroundings.git()


def in_words(check: Check, width: int) -> str:
    """A check in as many lines of so many columns as it takes: what there is, and below it what to do."""
    begin = f"{MARKS[check.status]:<9}{check.name:<{NAME_WIDTH - 1}} "
    indent = " " * len(begin)
    lines = textwrap.wrap(check.found, width, initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False)
    if check.advice:
        arrow = indent + "-> "
        lines += textwrap.wrap(
            check.advice, width, initial_indent=arrow, subsequent_indent=indent + "   ", break_on_hyphens=False
        )
    return "\n".join(lines)


def verdict(checks: Sequence[Check]) -> str:
    """The last line."""
    problems = list(dict.fromkeys(check.name for check in checks if check.status == PROBLEM))
    notes = [check.name for check in checks if check.status == NOTE]
    if problems:
        return f"Not ready: {', '.join(problems)}. More in docs/troubleshooting.md"
    return "Ready to train." + (f" Worth a look: {', '.join(notes)}." if notes else "")


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """For programs: whether all that is necessary is there, and every check."""
    return {
        "ready": all(check.status != PROBLEM for check in checks),
        "checks": [
            {"name": c.name, "status": c.status, "found": c.found, "advice": c.advice, "facts": c.facts} for c in checks
        ],
    }
