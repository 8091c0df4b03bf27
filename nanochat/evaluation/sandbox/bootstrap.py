"""What the new process does: leaves the machine behind, then becomes the judge, with the program as its child.

Run by a bare interpreter, with the standard library alone. The job lies on standard input: first what the program may
know, then the tests, which are read when the program has gone its own way. The verdict goes to standard output, what
is printed to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, NoReturn

from nanochat.evaluation.sandbox import isolation, wire
from nanochat.evaluation.sandbox.program_process import serve
from nanochat.evaluation.sandbox.seccomp import filter_calls
from nanochat.evaluation.sandbox.verdict import Candidate, Verdict, judge

JOB, VERDICT, PRINTED = 0, 1, 2


def main(parent: int) -> None:
    """Runs the job, and ends when everything that came of it has ended.

    Args:
        parent: the process that waits for the verdict: if that goes, so does this one.
    """
    isolation.die_with_parent()
    if os.getppid() != parent:
        return None
    job = wire.receive(JOB)
    assert job is not None
    os.umask(0o077)
    try:
        privileged = isolation.isolate(job["folder_bytes"])
    except isolation.Refused as error:
        return tell(("refused", str(error)))
    except OSError as error:
        return tell(("refused", f"{error.strerror}: {error.filename}"))
    number = os.getpid()
    alive, held = os.pipe()  # ends when this process does: the judge's prctl may come too late for that
    first = os.fork()
    if first == 0:
        os.close(held)
        _first(job, privileged, number, alive)
    os.close(alive)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(first, signal.SIGKILL))
    os.waitpid(first, 0)
    return None


def _first(job: dict[str, Any], privileged: bool, number: int, alive: int) -> NoReturn:
    """The first process of the namespace. When it ends, the kernel kills all others in it."""
    status = 1
    try:
        isolation.drop_privileges(privileged, number)
        isolation.die_with_parent()
        os.set_blocking(alive, False)
        try:
            if os.read(alive, 1) == b"":
                os._exit(1)  # the parent is gone already
        except BlockingIOError:
            pass
        os.close(alive)
        isolation.limit(job["cpu_seconds"], job["memory_bytes"], job["file_bytes"])
        tell(_judged(job))
        status = 0
    except isolation.Refused as error:
        tell(("refused", str(error)))
    except OSError as error:
        tell(("refused", str(error)))
    except MemoryError:
        tell(("memory", "of the tests"))
    finally:
        os._exit(status)


def _judged(job: dict[str, Any]) -> Verdict:
    calls, answers = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        # the program has these four, and neither the tests nor the way to the verdict
        nothing = os.pipe()
        os.close(nothing[1])
        os.dup2(nothing[0], JOB)
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
    filter_calls()
    rest = wire.receive(JOB)
    assert rest is not None
    sys.stdout = sys.stderr  # what the tests print is no verdict
    return judge(Candidate(calls[1], answers[0], pid), rest["given"], rest["tests"], job["name"])


def tell(verdict: Verdict) -> None:
    """Writes the verdict."""
    os.write(VERDICT, json.dumps(verdict).encode())
