"""Errors as the user sees them: one line on stderr, with what is wrong and what to do."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from nanochat.cli.troubleshooting import with_section
from nanochat.wording import one_line

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells report it: the reader has closed, such as `... | head`


class UsageError(ValueError):
    """The command line or a configuration file is wrong."""


def report(message: str) -> int:
    """Prints an error in one line, with its section of the troubleshooting page; returns the exit status."""
    print(f"nanochat: error: {with_section(one_line(message))}", file=sys.stderr)
    return EXIT_ERROR


def check_free(path: Path, option: str, overwrite: bool) -> None:
    """Refuses to replace a file unless the user asked for it.

    Raises:
        UsageError: if the file exists and ``overwrite`` is not set; it names the option with the path.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"there is already {path}: give another {option}, or --overwrite to replace it")


def check_folder(path: str | None, option: str) -> None:
    """Creates an output folder, before the long work whose results it takes; None is no folder.

    Raises:
        UsageError: if the folder cannot be created; it names the option.
    """
    if path is None:
        return
    if Path(path).is_file():
        raise UsageError(f"{option}={path} is a file: give a folder")
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {option}={path} cannot be created: {error.strerror}") from error


def report_errors(command: Callable[[], object], *kinds: type[Exception]) -> int:
    """Runs a command and prints the errors that the user can solve as one line; all others keep their traceback.

    Args:
        command: the function to run.
        kinds: exceptions that the user can solve, in addition to ValueError and OSError.

    Returns:
        The exit status: 0, 2 after an error, or the one that the command exits with.
    """
    solvable: tuple[type[Exception], ...] = (ValueError, *kinds)
    try:
        command()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout when it exits
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return report("the disk is full: free some space, or move the cache with NANOCHAT_CACHE")
        return report(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except solvable as error:
        return report(str(error))
    except SystemExit as end:  # raised by --help and --print_config, and by Lightning after Ctrl-C
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else 1
    return 0


def is_lost_process(error: RuntimeError) -> bool:
    """Whether the error is that another process of the run can no longer be reached."""
    import torch.distributed as dist  # imported here, so that --help does not load torch

    return isinstance(error, dist.DistError) or "gloo" in str(error)  # gloo's are plain RuntimeErrors


def exit_if_distributed(status: int) -> None:
    """Ends this process at once if it belongs to a process group. All files must have been written.

    Python's normal exit sometimes aborts while gloo's threads still run ("terminate called without an active
    exception": 2 of 75 processes that did nothing else; destroying the group first made it rarer, but did not prevent
    it). NCCL needs its group destroyed.
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        if dist.get_backend() == "nccl":
            dist.destroy_process_group()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def explain_process_error(error: RuntimeError) -> str | None:
    """The message if the processes of a run cannot, or can no longer, reach each other; None for any other error."""
    text = str(error)
    port = os.environ.get("MASTER_PORT", "the port")
    if "EADDRINUSE" in text:
        return f"port {port} of this machine is taken by another program: set MASTER_PORT to a free one, on all nodes"
    if re.search("(trying|failed) to connect to", text):
        address = os.environ.get("MASTER_ADDR", "the first process")
        return (
            f"the first process of this run cannot be reached at {address}, port {port}: has it started, and can "
            "the nodes reach each other by that name? (MASTER_ADDR and MASTER_PORT set another)"
        )
    if is_lost_process(error):
        return (
            "another process of this run has ended, so this one cannot go on; once the cause is solved, "
            "--ckpt_path=last goes on from the last checkpoint"
        )
    if "in your SLURM bash script" in text:  # Lightning's, about --ntasks
        return "SLURM was asked for --ntasks alone: ask for --nodes and --ntasks-per-node, one task for each device"
    return None
