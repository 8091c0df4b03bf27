"""The program's side: makes the function, and answers the judge's calls of it."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from nanochat.evaluation.sandbox import wire
from nanochat.evaluation.sandbox.isolation import FOLDER, LIBRARIES, PYTHON, limit_processes
from nanochat.evaluation.sandbox.seccomp import filter_calls

READABLE = (PYTHON, *LIBRARIES)
HOME = "/nonexistent"  # whoever looks there does what is forbidden
NETWORK = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "poplib.", "imaplib.", "telnetlib.")
PROCESSES = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn")
SIGNALS = ("os.kill", "signal.pthread_kill")
# audit events with a path, and what the program is then about to do
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


def forbidden(event: str, arguments: tuple[Any, ...]) -> str | None:
    """What is forbidden in an audit event of Python's; None if nothing is."""
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
    place = os.path.abspath(path)  # noqa: PTH100 (links lead nowhere here, and are not followed)
    if _within(place, FOLDER):
        return None
    if event == "open":
        flags = arguments[2] if len(arguments) > 2 and isinstance(arguments[2], int) else 0
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if not writes and any(_within(place, folder) for folder in READABLE):
            return None
        return f"{'writing' if writes else 'reading'} {path}"
    if event in PATHS and not (PATHS[event] == "listing" and any(_within(place, folder) for folder in READABLE)):
        return f"{PATHS[event]} {path}"
    return None


def _within(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder + "/")


def serve(source: str, name: str, calls: int, answers: int, threads: int) -> NoReturn:
    """Runs a program, then its function each time that it is called; never returns.

    Args:
        source: the program.
        name: of the function.
        calls: the pipe on which the judge calls.
        answers: the pipe for what comes of it.
        threads: how many it may have.
    """
    leave = os._exit  # the program may put others into their places: in its own process, where nobody else uses them

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        try:
            what = forbidden(event, arguments)
        except (OSError, ValueError):
            return
        if what is not None:
            wire.send(answers, ["over", "forbidden", what[:200]])
            leave(1)

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it: so it is known what ended the program
    os.environ.clear()
    os.environ["HOME"] = HOME
    limit_processes(threads)
    filter_calls()
    sys.argv = [""]
    sys.addaudithook(watch)
    namespace: dict[str, Any] = {"__name__": "program"}
    function: Callable[..., Any] | None = None

    def attempt(work: Callable[[], Any]) -> None:
        """Does it, and says what came of it."""
        try:
            wire.send(answers, ["value", wire.pack(work())])
        except MemoryError:
            wire.send(answers, ["over", "memory", "MemoryError"])
        except wire.TooLong:
            wire.send(answers, ["over", "output", f"an answer of more than {wire.MOST:,} bytes"])
        except SystemExit as end:
            wire.send(answers, ["over", "exited", f"SystemExit({str(end.code)[:100]})"])
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOSPC):
                wire.send(answers, ["over", "file size", str(error)[:200]])
            wire.send(answers, ["raised", type(error).__name__[:100], _text(error)])

    def begin() -> None:
        nonlocal function
        exec(compile(source, "program.py", "exec"), namespace)
        function = namespace[name] if name in namespace else _missing(name)

    attempt(begin)
    while (call := wire.receive(calls)) is not None:
        assert function is not None
        positional, keywords = wire.unpack(call[0]), wire.unpack(call[1])
        attempt(lambda p=positional, k=keywords: function(*p, **k))  # type: ignore[misc]
    leave(0)


def _missing(name: str) -> NoReturn:
    raise NameError(f"the program does not define {name}")


def _text(error: BaseException) -> str:
    try:
        return str(error)[:200]
    except Exception:
        return ""
