"""The test process: runs the tests, forwards their calls to the program process, and returns the verdict."""

from __future__ import annotations

import builtins
import os
import signal
from collections.abc import Callable
from typing import Any

from nanochat.evaluation.sandbox import wire

Verdict = tuple[str, str]  # kind, one of nanochat.evaluation.sandbox.run.KINDS, and a detail in words
PROGRAM_KINDS = ("forbidden", "memory", "output", "exited", "file size")  # that the program process may report itself
LOOP_EXCEPTIONS = (StopIteration, StopAsyncIteration)  # raised inside a loop of the tests, they would end it silently


class ProgramEnded(BaseException):
    """The program process has ended or failed: it will not answer any more calls."""


class RemoteFunction:
    """The function that the tests call: each call is forwarded to the program process.

    Args:
        calls: pipe to the program process.
        answers: pipe from the program process.
        pid: process id of the program process.

    Attributes:
        ended: the verdict on the program process once it has ended or failed, else None.
        raised: the exception that the last failed call raised.
        call_count: number of calls.
    """

    def __init__(self, calls: int, answers: int, pid: int) -> None:
        self._calls, self._answers, self._pid = calls, answers, pid
        self.ended: Verdict | None = None
        self.raised: BaseException | None = None
        self.call_count = 0

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.call_count += 1
        if self.ended is None:
            try:
                wire.send(self._calls, [wire.pack(list(arguments)), wire.pack(keywords)])
            except OSError:  # the program process has ended
                self.ended = self._exit_verdict()
        return self.receive()

    def receive(self) -> Any:
        """Waits for the next message and returns its value.

        Raises:
            ProgramEnded: if there are no more messages.
            Exception: the exception that the program's function raised.
        """
        if self.ended is None:
            try:
                reply = wire.receive(self._answers)
                if reply is None:
                    self.ended = self._exit_verdict()
                elif reply[0] == "over" and reply[1] in PROGRAM_KINDS:
                    self.ended = (reply[1], str(reply[2])[:300])
                elif reply[0] == "raised":
                    self.raised = _make_exception(str(reply[1]), str(reply[2]))
                elif reply[0] == "value":
                    return wire.unpack(reply[1])
                else:
                    raise ValueError("not a message")
            except wire.TooLong:
                self.ended = ("output", f"an answer of more than {wire.MAX_BYTES:,} bytes")
            except (ValueError, TypeError, LookupError, RecursionError):
                self.ended = ("failed", "the answer is not plain data")
        if self.ended is not None:
            raise ProgramEnded
        assert self.raised is not None
        raise self.raised

    def _exit_verdict(self) -> Verdict:
        """The verdict that follows from the exit status of the program process."""
        _, status = os.waitpid(self._pid, 0)
        if not os.WIFSIGNALED(status):
            return "exited", f"with status {os.WEXITSTATUS(status)}, before the tests were finished"
        number = os.WTERMSIG(status)
        verdicts: dict[int, Verdict] = {
            signal.SIGXCPU: ("timeout", "it exceeded its processor time"),
            signal.SIGSYS: ("forbidden", "a system call for processes, sockets, signals or the like"),
            signal.SIGXFSZ: ("file size", "a file became too large"),
            signal.SIGKILL: ("timeout", "it exceeded its processor time, or the machine ran out of memory"),
        }
        return verdicts.get(number, ("crashed", f"signal {number}"))


def _make_exception(name: str, text: str) -> Exception:
    """An exception like the one raised in the program process, of the same builtin type if there is one."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, LOOP_EXCEPTIONS):
        try:
            return kind(text)
        except TypeError:  # UnicodeError's subclasses take more arguments
            pass
    return type(name if name.isidentifier() else "Error", (Exception,), {})(text)


def get_verdict(function: RemoteFunction, given: str, tests: str, name: str) -> Verdict:
    """Runs the tests.

    Args:
        function: the program's function.
        given: Python source that the tests may use: the helper functions of the question.
        tests: Python source of the tests, in which the function has its name.
        name: name of the function.
    """
    try:
        function.receive()  # the program was executed and defines its function
    except ProgramEnded:
        assert function.ended is not None
        return function.ended
    except Exception as error:
        return "exception", _describe(error)
    namespace: dict[str, Any] = {"__name__": "tests"}
    verdict = _run(lambda: exec(compile(given, "given.py", "exec"), namespace), function)
    if verdict is None:
        namespace[name] = function
        verdict = _run(lambda: exec(compile(tests, "tests.py", "exec"), namespace), function)
    if function.ended is not None:  # even if the tests caught ProgramEnded
        return function.ended
    if verdict is None and not function.call_count:
        return "failed", "the tests did not call the program"
    return verdict or ("passed", f"{function.call_count} calls")


def _run(work: Callable[[], object], function: RemoteFunction) -> Verdict | None:
    """Runs a part of the tests; returns the verdict of a failure, None if there was none."""
    try:
        work()
    except ProgramEnded:
        return "failed", ""
    except BaseException as error:
        if isinstance(error, AssertionError) and error is not function.raised:
            return "failed", _find_line(error)
        return ("exception" if error is function.raised else "failed"), _describe(error)
    return None


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _find_line(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"line {trace.tb_lineno} of the tests" if trace is not None else ""
