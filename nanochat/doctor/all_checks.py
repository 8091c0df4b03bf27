"""All checks in the order in which they are printed, and how they are printed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanochat.cache import cache_root
from nanochat.doctor import packages, resources, system, torch_checks
from nanochat.doctor.check import NOTE, OK, PROBLEM, Check
from nanochat.doctor.environment import environment

MARKS = {OK: "ok", NOTE: "note", PROBLEM: "PROBLEM"}
NAME_WIDTH = 12


def run_checks(root: Path) -> Iterator[Check]:
    """Runs all checks, one after the other.

    Args:
        root: the folder that contains lightning_logs, or will.
    """
    yield packages.python()
    yield environment()
    yield from packages.packages(packages.requirements())
    facts = torch_checks.probe_torch()
    yield torch_checks.processor(facts)
    yield resources.threads(facts.get("threads"))
    yield torch_checks.speed(facts)
    yield torch_checks.gpu(facts)
    yield resources.memory()
    yield resources.disk("disk", root / "lightning_logs", "give --trainer.default_root_dir another folder")
    with suppress(ValueError):  # there is no home folder, which system.cache() reports
        yield resources.disk("cache disk", cache_root(), "set NANOCHAT_CACHE to another folder")
    yield system.cache()
    yield system.compiler()
    yield system.hub()
    yield system.terminal()
    yield system.git()


def format_check(check: Check, width: int) -> str:
    """A check as lines of at most ``width`` columns: the finding, and below it the advice."""
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
    """The last line: whether this machine is ready to train."""
    problems = list(dict.fromkeys(check.name for check in checks if check.status == PROBLEM))
    notes = [check.name for check in checks if check.status == NOTE]
    if problems:
        return f"Not ready: {', '.join(problems)}. More in docs/troubleshooting.md"
    return "Ready to train." + (f" Worth a look: {', '.join(notes)}." if notes else "")


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """The content of --json: whether this machine is ready, and all checks."""
    return {
        "ready": all(check.status != PROBLEM for check in checks),
        "checks": [
            {"name": c.name, "status": c.status, "found": c.found, "advice": c.advice, "facts": c.facts} for c in checks
        ],
    }
