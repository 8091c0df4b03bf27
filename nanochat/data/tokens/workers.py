"""How processes that prepare data beside training end with it, and leave signals to it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from types import TracebackType


def leave_signals_to_parent(worker: int) -> None:
    """What a terminal, torchrun or a cluster sends reaches a whole group of processes; only the main one answers.

    SIGTERM is not ignored, because by it the main process ends a worker that hangs: so a worker leaves the group.
    """
    ignore_warnings()
    sys.excepthook = _say_unless_parent_is_gone
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def _say_unless_parent_is_gone(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A worker whose parent is killed while a batch is handed over has nothing to say of it."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


def ignore_warnings() -> None:
    """Lets the main process answer alone: Ctrl-C and a cluster's warnings may reach all processes of a job."""
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):  # not all of them on Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def end_with_parent() -> None:
    """A parent that was killed cannot end its processes: they notice by themselves."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
