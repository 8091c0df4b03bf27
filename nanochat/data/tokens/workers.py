"""Signal handling in processes that prepare data, so that they end with the training process and only with it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from types import TracebackType


def init_loader_worker(worker: int) -> None:
    """Initialises a DataLoader worker: signals to the process group are left to the training process.

    A terminal, torchrun or a cluster signals a whole group of processes, and only the training process should respond.
    SIGTERM cannot be ignored, as torch ends hanging workers by it; so the worker leaves the group instead.
    """
    ignore_signals()
    sys.excepthook = _hide_lost_connection
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def _hide_lost_connection(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints no traceback in a worker whose parent was killed while a batch was sent to it."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


def ignore_signals() -> None:
    """Ignores Ctrl-C and a cluster's warnings, which may reach all processes of a job."""
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):  # Windows lacks some of them
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def exit_with_parent() -> None:
    """Blocks until the parent process ends, then ends this one: a killed parent cannot end its children."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
