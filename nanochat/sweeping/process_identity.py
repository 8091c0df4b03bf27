"""Identifies the processes that work on trials across restarts, and checks whether they are alive."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from typing import Any

import psutil

BIRTH_TOLERANCE = 2.0  # seconds; the creation time of a process changes when the system clock is adjusted
HEARTBEAT_INTERVAL = 30.0  # seconds
HEARTBEAT_TIMEOUT = 300.0  # seconds without a heartbeat, until a process on another machine counts as dead


def identify(pid: int | None = None) -> dict[str, Any]:
    """The identity of a process, by default of this one, to be stored with a trial.

    It contains the creation time, because the system reuses process ids, and the current time as a heartbeat.
    """
    process = psutil.Process(pid)
    return {"host": platform.node(), "pid": process.pid, "born": process.create_time(), "seen": time.time()}


def find_process(identity: Mapping[str, Any] | None) -> psutil.Process | None:
    """The process with this identity, if it is alive and on this machine."""
    if not identity or identity.get("host") != platform.node():
        return None
    try:
        process = psutil.Process(int(identity["pid"]))
        same = abs(process.create_time() - float(identity["born"])) < BIRTH_TOLERANCE
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, KeyError, ValueError, TypeError):
        return None


def is_alive(identity: Mapping[str, Any] | None) -> bool:
    """Whether the process is alive; on another machine, whether its last heartbeat is recent."""
    if not identity:
        return False
    if identity.get("host") != platform.node():
        return time.time() - float(identity.get("seen", 0.0)) < HEARTBEAT_TIMEOUT
    return find_process(identity) is not None
