"""Runs a program and its tests in the sandbox: starts it, reads the verdict within the limits, and ends it."""

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

# the kinds of outcome, with their descriptions
KINDS = {
    "passed": "all tests passed",
    "failed": "a test failed",
    "exception": "it raised an exception",
    "timeout": "it took too long",
    "memory": "it took too much memory",
    "output": "it printed too much",
    "file size": "it wrote too much",
    "forbidden": "it attempted a forbidden action",
    "exited": "it exited before the tests were finished",
    "crashed": "it crashed",
    "refused": "this machine cannot isolate it",
}
ROOT = str(Path(__file__).parents[3])  # the folder of the package nanochat
START = "import sys; sys.path.append(sys.argv[1]); from nanochat.evaluation.sandbox.bootstrap import main; main({pid})"
EXIT_TIMEOUT = 5.0  # seconds to wait for killed processes


class Limits(NamedTuple):
    """Resource limits of a program.

    Attributes:
        cpu_seconds: processor time.
        wall_seconds: total duration.
        memory_bytes: memory of each of the two processes.
        file_bytes: size of a file.
        folder_bytes: size of all files together.
        output_bytes: printed output.
        threads: number of threads; it cannot start another process.
    """

    cpu_seconds: int = 5
    wall_seconds: float = 15.0
    memory_bytes: int = 512 << 20
    file_bytes: int = 4 << 20
    folder_bytes: int = 16 << 20
    output_bytes: int = 64 << 10
    threads: int = 16


class Outcome(NamedTuple):
    """The outcome of running a program.

    Attributes:
        kind: one of KINDS.
        detail: further explanation. It may contain text from the program, so it must only be displayed.
        output: printed text, up to the limit.
        seconds: duration.
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
def missing_isolation() -> str | None:
    """Why this machine cannot isolate programs, found by running a trivial one; None if it can."""
    if sys.platform != "linux":
        return "programs are isolated with Linux namespaces, but this is not Linux"
    outcome = run_tests("def f(): return 1", "f", "assert f() == 1")
    return None if outcome.passed else outcome.detail or str(outcome)


def require_isolation() -> None:
    """Checks that this machine can isolate programs.

    Raises:
        ValueError: if it cannot, with the reason.
    """
    reason = missing_isolation()
    if reason is not None:
        raise ValueError(
            f"programs written by the model cannot be isolated here and are not run: {reason}; leave HumanEval out, or "
            "use a Linux system where users may create namespaces (in a container: --privileged, or --security-opt "
            "seccomp=unconfined)"
        )


def run_tests(program: str, name: str, tests: str, given: str = "", limits: Limits | None = None) -> Outcome:
    """Runs a program and the tests of its function in the sandbox.

    Args:
        program: Python source of the program.
        name: name of the function that it must define.
        tests: Python source of the tests, in which the function has its name; they pass if they raise no exception.
        given: Python source that the tests may use, such as helper functions.
        limits: resource limits; None for the defaults.

    Returns:
        The outcome; "refused" if the machine cannot isolate the program, which is not run then.
    """
    if sys.platform != "linux":
        return Outcome("refused", "this is not Linux", "", 0.0)
    limits = limits or Limits()
    started = time.monotonic()
    program_part = {"program": program, "name": name, **limits._asdict()}
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", START.format(pid=os.getpid()), ROOT]
    job = os.memfd_create("job")
    try:
        with open(job, "wb", closefd=False) as file:
            for part in (program_part, {"given": given, "tests": tests}):
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
        kind, detail, printed = _read_verdict(process, started + limits.wall_seconds, limits)
    finally:
        _kill(process)
    return Outcome(kind, detail, printed.decode("utf-8", "replace"), time.monotonic() - started)


def _read_verdict(process: subprocess.Popen[bytes], deadline: float, limits: Limits) -> tuple[str, str, bytes]:
    """Reads verdict and output until both end or a limit is exceeded: (kind, detail, output)."""
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
        # the test process was killed or could not start
        last = printed.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no output"]
        return "crashed", f"the test process ended without a verdict: {last[0][:200]}", printed
    return (str(kind) if kind in KINDS else "crashed"), str(detail), printed


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills all remaining processes of the sandbox and waits for them."""
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.terminate()  # its handler kills the first process of the namespace, and the kernel all others
        process.wait(EXIT_TIMEOUT)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # no process is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
