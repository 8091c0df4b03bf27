"""The way in from outside: starts the sandbox, listens to it for so long, and ends it for certain."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

# what came of a program, and what that means
KINDS = {
    "passed": "all tests passed",
    "failed": "a test failed",
    "exception": "it raised an exception",
    "timeout": "it took too long",
    "memory": "it took too much memory",
    "output": "it printed too much",
    "file size": "it wrote too much",
    "forbidden": "it tried what it must not",
    "exited": "it exited before the tests were done",
    "crashed": "it crashed",
    "refused": "this machine cannot isolate it",
}
ROOT = str(Path(__file__).parents[3])  # the folder that the package nanochat is in
START = "import sys; sys.path.append(sys.argv[1]); from nanochat.evaluation.sandbox.bootstrap import main; main({pid})"
PATIENCE = 5.0  # seconds for what was killed to be gone


class Limits(NamedTuple):
    """What a program may use.

    Attributes:
        cpu_seconds: of the processor's time.
        wall_seconds: from beginning to end.
        memory_bytes: of each of the two processes.
        file_bytes: of a file; ``folder_bytes`` of all files.
        output_bytes: that it prints.
        threads: how many; another process it cannot start.
    """

    cpu_seconds: int = 5
    wall_seconds: float = 15.0
    memory_bytes: int = 512 << 20
    file_bytes: int = 4 << 20
    folder_bytes: int = 16 << 20
    output_bytes: int = 64 << 10
    threads: int = 16


class Outcome(NamedTuple):
    """What came of a program.

    Attributes:
        kind: one of KINDS.
        detail: more about it. The program may have written it: it is no more than a text.
        output: what was printed, as far as that is kept.
        seconds: how long it took.
    """

    kind: str
    detail: str
    output: str
    seconds: float

    @property
    def passed(self) -> bool:
        return self.kind == "passed"

    def __str__(self) -> str:
        return KINDS[self.kind] + (f" ({self.detail})" if self.detail else "")


@cache
def why_not() -> str | None:
    """Why this machine cannot isolate programs; None if it can, which one that does nothing is run to see."""
    if sys.platform != "linux":
        return "programs are isolated by Linux's namespaces, and this is no Linux"
    outcome = run_tests("def f(): return 1", "f", "assert f() == 1")
    return None if outcome.passed else outcome.detail or str(outcome)


def require() -> None:
    """Makes sure that programs can be isolated here.

    Raises:
        ValueError: if not, with the reason.
    """
    reason = why_not()
    if reason is not None:
        raise ValueError(
            f"programs that a model wrote cannot be run here, as they could not be isolated: {reason}; leave HumanEval "
            "out, or use a Linux where users may make namespaces (in a container: --privileged, or --security-opt "
            "seccomp=unconfined)"
        )


def run_tests(program: str, name: str, tests: str, given: str = "", limits: Limits | None = None) -> Outcome:
    """Runs a program in isolation, and tests of a function of its own.

    Args:
        program: Python.
        name: of the function that it is to define.
        tests: Python, in which the function has its name; what raises no exception has passed.
        given: what the tests may use besides.
        limits: what it may use.

    Returns:
        What came of it; "refused" where the machine cannot isolate it, and it was not run.
    """
    if sys.platform != "linux":
        return Outcome("refused", "this is no Linux", "", 0.0)
    limits = limits or Limits()
    begin = time.monotonic()
    first = {"program": program, "name": name, **limits._asdict()}
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", START.format(pid=os.getpid()), ROOT]
    job = os.memfd_create("job")
    try:
        with open(job, "wb", closefd=False) as file:
            for part in (first, {"given": given, "tests": tests}):
                data = json.dumps(part).encode()
                file.write(len(data).to_bytes(4, "big") + data)
        os.lseek(job, 0, os.SEEK_SET)
        process = subprocess.Popen(
            command,
            stdin=job,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(job)
    try:
        kind, detail, printed = _listen(process, begin + limits.wall_seconds, limits)
    finally:
        _end(process)
    return Outcome(kind, detail, printed.decode("utf-8", "replace"), time.monotonic() - begin)


def _listen(process: subprocess.Popen[bytes], deadline: float, limits: Limits) -> tuple[str, str, bytes]:
    """Reads what comes, until there is a verdict or a limit is reached."""
    assert process.stdout is not None
    assert process.stderr is not None
    verdict, printed = b"", b""
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return "timeout", f"after {limits.wall_seconds:g} seconds", printed
            for key, _ in selector.select(left):
                new = os.read(key.fd, 65536)
                if not new:
                    selector.unregister(key.fileobj)
                elif key.fd == process.stdout.fileno():
                    verdict += new
                else:
                    printed += new[: limits.output_bytes + 1 - len(printed)]
            if len(printed) > limits.output_bytes:
                return "output", f"more than {limits.output_bytes:,} bytes", printed[: limits.output_bytes]
    try:
        kind, detail = json.loads(verdict)
    except ValueError:
        # the judge has said nothing: it was killed, or could not even start
        last = printed.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        return "crashed", f"the judge has gone: {last[0][:200]}", printed
    return (str(kind) if kind in KINDS else "crashed"), str(detail), printed


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills all that may be left, and waits until it is gone."""
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.terminate()  # it kills the first process of the namespace, and with it all others
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # where none is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
