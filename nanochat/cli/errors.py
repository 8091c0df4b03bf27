"""Errors as a user sees them: one line on stderr that says what is wrong and what to do."""

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
EXIT_INTERRUPTED = 130  # as a shell reports a program that Ctrl-C ended
EXIT_BROKEN_PIPE = 141  # as a shell reports one whose output nobody reads any more, such as `... | head`


class UsageError(ValueError):
    """The command line or a configuration file asks for something that there is not."""


def report(message: str) -> int:
    """Prints the line, with the section of the documentation that it belongs to, and returns the exit status."""
    print(f"nanochat: error: {with_section(one_line(message))}", file=sys.stderr)
    return EXIT_ERROR


def check_free(path: Path, option: str, overwrite: bool) -> None:
    """Refuses to replace a file, unless the user has said that it may be.

    Raises:
        UsageError: naming the option that says where to write.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"there is already {path}: give another {option}, or --overwrite to replace it")


def check_folder(path: str | None, option: str) -> None:
    """Makes the folder that is to be written into, before long work is done for it; None is not set.

    Raises:
        UsageError: naming the option, if it cannot be one.
    """
    if path is None:
        return
    if Path(path).is_file():
        raise UsageError(f"{option}={path} is a file: give a folder")
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{option}={path} cannot be made a folder: {error.strerror}") from error


def report_errors(command: Callable[[], object], *kinds: type[Exception]) -> int:
    """Runs a command, and tells what a user can do something about in one line.

    Args:
        command: what to run.
        kinds: exceptions that are the user's to solve, besides ValueError and OSError.

    Returns:
        The exit status: 0, 2 after an error, or what the command exits with.
    """
    solvable: tuple[type[Exception], ...] = (ValueError, *kinds)
    try:
        command()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes at its end
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return report("the disk is full: free some space, or move the cache with NANOCHAT_CACHE")
        return report(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except solvable as error:
        return report(str(error))
    except SystemExit as end:  # of --help and --print_config, and of Lightning after Ctrl-C
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else 1
    return 0


def is_lost_process(error: RuntimeError) -> bool:
    """Whether the error says that another process of the run can no longer be reached."""
    import torch.distributed as dist  # not above: --help does not wait for torch

    return isinstance(error, dist.DistError) or "gloo" in str(error)  # gloo's are plain RuntimeErrors


def exit_if_distributed(status: int) -> None:
    """Ends this process if it has been connected to others of the run; all is written by now.

    Python would clear away first, and gloo's threads, found running then, abort the process now and then ("terminate
    called without an active exception": 2 of 75 processes that did nothing else; closing the group first made it rarer,
    but did not end it). NCCL wants its group closed.
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        if dist.get_backend() == "nccl":
            dist.destroy_process_group()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def explain_process_error(error: RuntimeError) -> str | None:
    """What to say if the processes of a run could not find, or no longer reach, each other; None if it is not that."""
    text = str(error)
    port = os.environ.get("MASTER_PORT", "the port")
    if "EADDRINUSE" in text:
        return f"port {port} of this machine is taken by another program: set MASTER_PORT to a free one, on all nodes"
    if re.search("(trying|failed) to connect to", text):
        address = os.environ.get("MASTER_ADDR", "the first process")
        return (
            f"the first process of this run was not to be reached at {address}, port {port}: has it started, and do "
            "the nodes reach each other by that name? (MASTER_ADDR and MASTER_PORT set another)"
        )
    if is_lost_process(error):
        return (
            "another process of this run has ended, so this one cannot go on; when the cause is gone, "
            "--ckpt_path=last goes on from the last checkpoint"
        )
    if "in your SLURM bash script" in text:  # Lightning's, about --ntasks
        return "SLURM was asked for --ntasks alone: ask for --nodes and --ntasks-per-node, one task for each device"
    return None
