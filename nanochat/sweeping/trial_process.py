"""The training process of one trial: starts it, waits until it ends, and records the result."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from nanochat.runs import Run, read_run
from nanochat.sweeping.trials import DONE, FAILED, PRUNED, Trial

if TYPE_CHECKING:
    from nanochat.sweeping.storage import ClaimedTrial

POLL_SECONDS = 0.5
STOPPED = (130, 143)  # exit statuses of a training run that was ended by Ctrl-C or SIGTERM
OUTPUT = "output"  # folder of the trials' output, next to the trials
SCORE = "val/bpb"
ERROR = re.compile(r"nanochat: error: (.*)")
Progress = Callable[[list[float], float], None]


class TrialProcess:
    """The training process of a trial: started here, or found running.

    Args:
        claimed: the trial, claimed by this process.
        folder: folder of the sweep.
    """

    def __init__(self, claimed: ClaimedTrial, folder: Path) -> None:
        self.claimed, self.folder = claimed, folder
        self.run = folder / f"version_{claimed.trial.number}"
        self.output = folder / OUTPUT / f"{claimed.trial.number}.txt"
        self._process: psutil.Process | None = None
        self._started = time.monotonic()

    def start(self, command: Sequence[str]) -> None:
        """Starts or resumes training, unless its process is still running or finished after its sweep was killed."""
        if self.claimed.process is not None or (self.claimed.resumed and self._summary().get("complete") is True):
            self._process = self.claimed.process
            return
        self.output.parent.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        with open(self.output, "ab") as file:  # appends to the output before an interruption
            self._process = psutil.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment
            )
        self.claimed.record_process(self._process.pid)

    def wait(self, prune: bool, progress: Progress) -> Trial | None:
        """Waits until the process ends, and records the result.

        Args:
            prune: whether to stop the process when the pruner decides so.
            progress: called twice a second with all scores so far and the elapsed seconds.

        Returns:
            The finished trial; None if a process that was found running has ended without finishing its run, so that
            the trial is released and can be resumed.
        """
        pruned = False
        while True:
            status = self._exit_status()
            scores = self.scores()
            self.claimed.heartbeat()
            self.claimed.report(scores)
            if status is not None:
                break
            progress(scores, time.monotonic() - self._started)
            if prune and not pruned and scores and (math.isnan(scores[-1]) or self.claimed.should_prune()):
                pruned = True
                self.stop()
        return self._record(status, pruned)

    def _exit_status(self) -> int | None:
        """The exit status; None while it runs; 0 if unknown, since the process is not a child or has already ended."""
        try:
            return int(self._process.wait(POLL_SECONDS) or 0) if self._process is not None else 0
        except psutil.TimeoutExpired:
            return None

    def scores(self) -> list[float]:
        """All val/bpb so far, from the metrics of the run."""
        return Run(self.run, self.folder.name, self.claimed.trial.number, "").curve(SCORE)[1]

    def stop(self) -> None:
        """Asks the process to stop after its step and to save a checkpoint (SIGTERM)."""
        with suppress(psutil.NoSuchProcess):
            if self._process is not None:
                self._process.terminate()

    def interrupt(self) -> None:
        """Stops the process, waits for it, and releases the trial. A second Ctrl-C does not wait."""
        try:
            if self._process is not None:
                if sys.platform != "win32":  # terminate() kills on Windows, where the process has received Ctrl-C too
                    self.stop()
                self._process.wait()
        finally:
            with suppress(Exception):  # an interrupted storage; when this process ends, the trial counts as released
                self.claimed.release()

    def _record(self, status: int, pruned: bool) -> Trial | None:
        summary = self._summary()
        value, seconds = summary.get("val_bpb"), summary.get("seconds")
        took = float(seconds) if isinstance(seconds, (int, float)) else time.monotonic() - self._started
        if summary.get("complete") is True and isinstance(value, (int, float)) and math.isfinite(value):
            return self.claimed.finish(DONE, float(value), took)
        if pruned:
            return self.claimed.finish(PRUNED, None, took)
        if summary.get("complete") is True:
            reason = "it has no score (--trainer.limit_val_batches?)" if value is None else f"its {SCORE} is {value}"
            return self.claimed.finish(FAILED, None, took, reason)
        if self.claimed.process is not None:  # its exit status is unknown, so it is resumed instead of marked as failed
            self.claimed.release()
            return None
        return self.claimed.finish(FAILED, None, took, self._failure(status))

    def _summary(self) -> dict[str, Any]:
        """The summary of the run; empty before its end."""
        try:
            return read_run(self.run).summary
        except ValueError:
            return {}

    def _failure(self, status: int) -> str:
        """The reason of a failure: its error message, or its last line of output with the exit status."""
        lines = _last_lines(self.output)
        error = next((match[1] for line in reversed(lines) if (match := ERROR.search(line))), None)
        if error is not None:
            return error
        if status in STOPPED:
            return "it was stopped from outside (--retry_failed retries it)"
        if status < 0:
            return f"it was ended by signal {-status}{' (is the memory full?)' if status == -9 else ''}"
        return (lines[-1] if lines else "it ended without output") + (f" (exit status {status})" if status else "")


def _last_lines(path: Path, size: int = 20_000) -> list[str]:
    """The non-empty lines in the last ``size`` bytes of a file."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
