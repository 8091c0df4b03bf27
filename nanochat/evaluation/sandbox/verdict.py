"""The judge: runs the tests, asks the program for what its function returns, and says what came of it."""

from __future__ import annotations

import builtins
import os
import signal
from collections.abc import Callable
from typing import Any

from nanochat.evaluation.sandbox import wire

Verdict = tuple[str, str]  # a kind of outcome, and more about it in words
ENDS = ("forbidden", "memory", "output", "exited", "file size")  # what the program may say of itself: never "passed"
ENDS_LOOPS = (StopIteration, StopAsyncIteration)  # raised within a loop of the tests, they would look like its end


class Over(BaseException):
    """There will be no more answers: the tests can stop."""


class Candidate:
    """What the tests call: asks the program.

    Args:
        calls: the pipe to the program.
        answers: the pipe from it.
        pid: of the program.

    Attributes:
        over: what has ended the program, if something has.
        raised: the exception that the last call ended with, if it did.
        called: how often it was called.
    """

    def __init__(self, calls: int, answers: int, pid: int) -> None:
        self._calls, self._answers, self._pid = calls, answers, pid
        self.over: Verdict | None = None
        self.raised: BaseException | None = None
        self.called = 0

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.called += 1
        if self.over is None:
            try:
                wire.send(self._calls, [wire.pack(list(arguments)), wire.pack(keywords)])
            except OSError:  # it is gone
                self.over = self._ended()
        return self.answer()

    def answer(self) -> Any:
        """Waits for what the program says next.

        Raises:
            Over: if it says no more.
            Exception: what its function raised.
        """
        if self.over is None:
            try:
                reply = wire.receive(self._answers)
                if reply is None:
                    self.over = self._ended()
                elif reply[0] == "over" and reply[1] in ENDS:
                    self.over = (reply[1], str(reply[2])[:300])
                elif reply[0] == "raised":
                    self.raised = _exception(str(reply[1]), str(reply[2]))
                elif reply[0] == "value":
                    return wire.unpack(reply[1])
                else:
                    raise ValueError("not a message")
            except wire.TooLong:
                self.over = ("output", f"an answer of more than {wire.MOST:,} bytes")
            except (ValueError, TypeError, LookupError, RecursionError):
                self.over = ("failed", "the answer is no plain data")
        if self.over is not None:
            raise Over
        assert self.raised is not None
        raise self.raised

    def _ended(self) -> Verdict:
        """What the end of the program's process means."""
        _, status = os.waitpid(self._pid, 0)
        if not os.WIFSIGNALED(status):
            return "exited", f"with status {os.WEXITSTATUS(status)}, before the tests were done"
        number = os.WTERMSIG(status)
        known: dict[int, Verdict] = {
            signal.SIGXCPU: ("timeout", "its processor time is used up"),
            signal.SIGSYS: ("forbidden", "a system call that no program needs: processes, sockets, signals and such"),
            signal.SIGXFSZ: ("file size", "a file became too large"),
            signal.SIGKILL: ("timeout", "its processor time, or the machine's memory, is used up"),
        }
        return known.get(number, ("crashed", f"signal {number}"))


def _exception(name: str, text: str) -> Exception:
    """An exception of the program's, as the tests may expect it."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, ENDS_LOOPS):
        try:
            return kind(text)
        except TypeError:  # UnicodeError's want more
            pass
    return type(name if name.isidentifier() else "Error", (Exception,), {})(text)


def judge(candidate: Candidate, given: str, tests: str, name: str) -> Verdict:
    """Runs the tests.

    Args:
        candidate: the program's function.
        given: what the tests may use besides: the helpers that the question came with.
        tests: Python, in which the function has its name.
        name: of the function.
    """
    try:
        candidate.answer()  # the program has run, and its function is there
    except Over:
        assert candidate.over is not None
        return candidate.over
    except Exception as error:
        return "exception", _words(error)
    namespace: dict[str, Any] = {"__name__": "tests"}
    verdict = _run(lambda: exec(compile(given, "given.py", "exec"), namespace), candidate)
    if verdict is None:
        namespace[name] = candidate
        verdict = _run(lambda: exec(compile(tests, "tests.py", "exec"), namespace), candidate)
    if candidate.over is not None:  # whatever the tests have made of that
        return candidate.over
    if verdict is None and not candidate.called:
        return "failed", "the tests have not called the program"
    return verdict or ("passed", f"{candidate.called} calls")


def _run(work: Callable[[], object], candidate: Candidate) -> Verdict | None:
    try:
        work()
    except Over:
        return "failed", ""
    except BaseException as error:
        if isinstance(error, AssertionError) and error is not candidate.raised:
            return "failed", _place(error)
        return ("exception" if error is candidate.raised else "failed"), _words(error)
    return None


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"line {trace.tb_lineno} of the tests" if trace is not None else ""
