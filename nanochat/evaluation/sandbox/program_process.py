"""The program process: executes the program and answers the test process's calls of its function."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from nanochat.evaluation.sandbox import wire
from nanochat.evaluation.sandbox.isolation import FOLDER, LIBRARIES, PYTHON, limit_processes
from nanochat.evaluation.sandbox.seccomp import install_filter

READABLE = (PYTHON, *LIBRARIES)
HOME = "/nonexistent"  # outside of the readable folders, so access is reported as forbidden
NETWORK = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "poplib.", "imaplib.", "telnetlib.")
PROCESSES = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn")
SIGNALS = ("os.kill", "signal.pthread_kill")
# audit events whose first argument is a path, and the action that they announce
PATHS = {
    "os.remove": "deleting",
    "os.rmdir": "deleting",
    "shutil.rmtree": "deleting",
    "os.rename": "renaming",
    "os.link": "linking",
    "os.symlink": "linking",
    "os.truncate": "writing",
    "os.mkdir": "writing",
    "os.chmod": "changing",
    "os.chown": "changing",
    "os.utime": "changing",
    "os.listdir": "listing",
    "os.scandir": "listing",
    "os.chdir": "entering",
}


def find_violation(event: str, arguments: tuple[Any, ...]) -> str | None:
    """Describes what an audit event of Python does that is forbidden; None if it is allowed."""
    if event.startswith(NETWORK):
        return f"the network ({event})"
    if event.startswith(PROCESSES):
        return f"starting processes ({event})"
    if event.startswith(SIGNALS):
        return f"signals ({event})"
    path = arguments[0] if arguments else None
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not isinstance(path, str) or path == "":
        return None
    absolute = os.path.abspath(path)  # noqa: PTH100 (links cannot be created here and are not followed)
    if _is_within(absolute, FOLDER):
        return None
    if event == "open":
        flags = arguments[2] if len(arguments) > 2 and isinstance(arguments[2], int) else 0
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if not writes and any(_is_within(absolute, folder) for folder in READABLE):
            return None
        return f"{'writing' if writes else 'reading'} {path}"
    if event in PATHS and not (PATHS[event] == "listing" and any(_is_within(absolute, folder) for folder in READABLE)):
        return f"{PATHS[event]} {path}"
    return None


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def serve(source: str, name: str, calls: int, answers: int, threads: int) -> NoReturn:
    """Executes a program, then runs its function for each call received; never returns.

    Args:
        source: the program's source.
        name: name of the function.
        calls: pipe on which the test process sends calls.
        answers: pipe for return values and exceptions.
        threads: limit on the program's threads.
    """
    leave = os._exit  # kept in a local variable: the program may replace os._exit

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        try:
            violation = find_violation(event, arguments)
        except (OSError, ValueError):
            return
        if violation is not None:
            wire.send(answers, ["over", "forbidden", violation[:200]])
            leave(1)

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; by default it kills, which names the cause
    os.environ.clear()
    os.environ["HOME"] = HOME
    limit_processes(threads)
    install_filter()
    sys.argv = [""]
    sys.addaudithook(audit)
    namespace: dict[str, Any] = {"__name__": "program"}
    function: Callable[..., Any] | None = None

    def attempt(work: Callable[[], Any]) -> None:
        """Runs ``work`` and sends its value or exception."""
        try:
            wire.send(answers, ["value", wire.pack(work())])
        except MemoryError:
            wire.send(answers, ["over", "memory", "MemoryError"])
        except wire.TooLong:
            wire.send(answers, ["over", "output", f"an answer of more than {wire.MAX_BYTES:,} bytes"])
        except SystemExit as end:
            wire.send(answers, ["over", "exited", f"SystemExit({str(end.code)[:100]})"])
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOSPC):
                wire.send(answers, ["over", "file size", str(error)[:200]])
            wire.send(answers, ["raised", type(error).__name__[:100], _text(error)])

    def execute() -> None:
        nonlocal function
        exec(compile(source, "program.py", "exec"), namespace)
        function = namespace[name] if name in namespace else _raise_missing(name)

    attempt(execute)
    while (call := wire.receive(calls)) is not None:
        assert function is not None
        positional, keywords = wire.unpack(call[0]), wire.unpack(call[1])
        attempt(lambda p=positional, k=keywords: function(*p, **k))  # type: ignore[misc]
    leave(0)


def _raise_missing(name: str) -> NoReturn:
    raise NameError(f"the program does not define {name}")


def _text(error: BaseException) -> str:
    try:
        return str(error)[:200]
    except Exception:
        return ""
