"""Which process works on a trial, and whether it still lives."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from typing import Any

import psutil

SAME_SECONDS = 2.0  # a process's birth is known to that: the clock that it is told by may have been set meanwhile
SILENT_SECONDS = 300.0  # a process of another machine that has said nothing for so long is taken for dead
SIGN_SECONDS = 30.0  # between two signs of life


def owner(pid: int | None = None) -> dict[str, Any]:
    """A process, this one by default, as it is found again: a number alone is given to others when it has ended."""
    process = psutil.Process(pid)
    return {"host": platform.node(), "pid": process.pid, "born": process.create_time(), "seen": time.time()}


def process_of(owned_by: Mapping[str, Any] | None) -> psutil.Process | None:
    """The process, if it lives on this machine."""
    if not owned_by or owned_by.get("host") != platform.node():
        return None
    try:
        process = psutil.Process(int(owned_by["pid"]))
        same = abs(process.create_time() - float(owned_by["born"])) < SAME_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, KeyError, ValueError, TypeError):
        return None


def lives(owned_by: Mapping[str, Any] | None) -> bool:
    """Whether the process lives. Of one on another machine it is known only when it last gave a sign of life."""
    if not owned_by:
        return False
    if owned_by.get("host") != platform.node():
        return time.time() - float(owned_by.get("seen", 0.0)) < SILENT_SECONDS
    return process_of(owned_by) is not None
