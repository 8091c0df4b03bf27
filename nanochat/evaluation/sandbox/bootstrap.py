"""Entry point of the sandbox: isolates this process, then forks the test process and its child, the program process.

It runs in a separate interpreter, with the standard library only. Standard input holds the job: first what the program
process may see, then the tests, which are read after the program process was forked. The verdict goes to standard
output; printed text goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, NoReturn

from nanochat.evaluation.sandbox import isolation, wire
from nanochat.evaluation.sandbox.program_process import serve
from nanochat.evaluation.sandbox.seccomp import install_filter
from nanochat.evaluation.sandbox.verdict import RemoteFunction, Verdict, get_verdict

JOB, VERDICT, PRINTED = 0, 1, 2  # file descriptors


def main(parent: int) -> None:
    """Runs the job and returns when all processes of the sandbox have ended.

    Args:
        parent: process id of the process that waits for the verdict; if it ends, so does this one.
    """
    isolation.die_with_parent()
    if os.getppid() != parent:
        return None
    job = wire.receive(JOB)
    assert job is not None
    os.umask(0o077)
    try:
        privileged = isolation.isolate(job["folder_bytes"])
    except isolation.IsolationError as error:
        return write_verdict(("refused", str(error)))
    except OSError as error:
        return write_verdict(("refused", f"{error.strerror}: {error.filename}"))
    pid = os.getpid()
    alive, held = os.pipe()  # closes when this process ends: the child's prctl may come too late to notice that
    child = os.fork()
    if child == 0:
        os.close(held)
        _run_test_process(job, privileged, pid, alive)
    os.close(alive)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, signal.SIGKILL))
    os.waitpid(child, 0)
    return None


def _run_test_process(job: dict[str, Any], privileged: bool, parent: int, alive: int) -> NoReturn:
    """The first process of the process namespace. When it ends, the kernel kills all others in it."""
    status = 1
    try:
        isolation.drop_privileges(privileged, parent)
        isolation.die_with_parent()
        os.set_blocking(alive, False)
        try:
            if os.read(alive, 1) == b"":
                os._exit(1)  # the parent has already ended
        except BlockingIOError:
            pass
        os.close(alive)
        isolation.set_limits(job["cpu_seconds"], job["memory_bytes"], job["file_bytes"])
        write_verdict(_run_job(job))
        status = 0
    except isolation.IsolationError as error:
        write_verdict(("refused", str(error)))
    except OSError as error:
        write_verdict(("refused", str(error)))
    except MemoryError:
        write_verdict(("memory", "of the tests"))
    finally:
        os._exit(status)


def _run_job(job: dict[str, Any]) -> Verdict:
    calls, answers = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        # the program process keeps its two pipes and standard error, but neither the tests nor the verdict's pipe
        empty = os.pipe()
        os.close(empty[1])
        os.dup2(empty[0], JOB)
        os.dup2(PRINTED, VERDICT)
        kept = sorted({JOB, VERDICT, PRINTED, calls[0], answers[1]})
        for before, after in zip(kept, [*kept[1:], 4096], strict=True):
            os.closerange(before + 1, after)
        try:
            serve(job["program"], job["name"], calls[0], answers[1], job["threads"])
        except BaseException:
            os._exit(1)
    os.close(calls[0])
    os.close(answers[1])
    install_filter()
    tests = wire.receive(JOB)
    assert tests is not None
    sys.stdout = sys.stderr  # what the tests print must not mix with the verdict
    return get_verdict(RemoteFunction(calls[1], answers[0], pid), tests["given"], tests["tests"], job["name"])


def write_verdict(verdict: Verdict) -> None:
    os.write(VERDICT, json.dumps(verdict).encode())
