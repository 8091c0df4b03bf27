"""One trial: a training process of its own, watched until it ends, and what it left behind."""

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
    from nanochat.sweeping.storage import Work

LOOK_SECONDS = 0.5  # between two looks at a process
STOPPED = (130, 143)  # exit statuses of training that Ctrl-C or SIGTERM ended
OUTPUT = "output"  # the folder of what the trials' processes print, beside the trials
SCORE = "val/bpb"
ERROR = re.compile(r"nanochat: error: (.*)")
Progress = Callable[[list[float], float], None]


class Watched:
    """The process of a trial: one that is started here, or one that is found running.

    Args:
        work: the trial, which this process has taken on.
        folder: of the sweep.
    """

    def __init__(self, work: Work, folder: Path) -> None:
        self.work, self.folder = work, folder
        self.run = folder / f"version_{work.trial.number}"
        self.output = folder / OUTPUT / f"{work.trial.number}.txt"
        self._process: psutil.Process | None = None
        self._started = time.monotonic()

    def start(self, command: Sequence[str]) -> None:
        """Starts training, or goes on with it; or finds it running, or ended while no sweep was there to see it."""
        if self.work.process is not None or (self.work.begun and self._summary().get("complete") is True):
            self._process = self.work.process
            return
        self.output.parent.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        with open(self.output, "ab") as file:  # of a trial that goes on, what it printed before stays
            self._process = psutil.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment
            )
        self.work.started(self._process.pid)

    def wait(self, prune: bool, progress: Progress) -> Trial | None:
        """Waits for the end, and notes what came of it; None of a process whose sweep was killed, and then itself.

        Args:
            prune: whether the process is ended where the sweep's pruner finds it hopeless.
            progress: is told all scores so far and the seconds, twice a second.
        """
        hopeless = False
        while True:
            status = self._status()
            scores = self.scores()
            self.work.sign()
            self.work.report(scores)
            if status is not None:
                break
            progress(scores, time.monotonic() - self._started)
            if prune and not hopeless and scores and (math.isnan(scores[-1]) or self.work.is_hopeless()):
                hopeless = True
                self.stop()
        return self._note(status, hopeless)

    def _status(self) -> int | None:
        """The exit status, None while it runs; 0 of a process that somebody else has started, or that has ended."""
        try:
            return int(self._process.wait(LOOK_SECONDS) or 0) if self._process is not None else 0
        except psutil.TimeoutExpired:
            return None

    def scores(self) -> list[float]:
        """Every val/bpb so far, by the run's own file."""
        return Run(self.run, self.folder.name, self.work.trial.number, "").curve(SCORE)[1]

    def stop(self) -> None:
        """Asks the process to stop after its step, with all saved."""
        with suppress(psutil.NoSuchProcess):
            if self._process is not None:
                self._process.terminate()

    def leave(self) -> None:
        """Stops the process calmly and leaves the trial for later. Ctrl-C once more does not wait for it."""
        try:
            if self._process is not None:
                if sys.platform != "win32":  # there it would be no question, and Ctrl-C has reached the process as well
                    self.stop()
                self._process.wait()
        finally:
            with suppress(Exception):  # of a storage that was interrupted: that this process has ended says the same
                self.work.leave()

    def _note(self, status: int, hopeless: bool) -> Trial | None:
        summary = self._summary()
        value, seconds = summary.get("val_bpb"), summary.get("seconds")
        took = float(seconds) if isinstance(seconds, (int, float)) else time.monotonic() - self._started
        if summary.get("complete") is True and isinstance(value, (int, float)) and math.isfinite(value):
            return self.work.finish(DONE, float(value), took)
        if hopeless:
            return self.work.finish(PRUNED, None, took)
        if summary.get("complete") is True:
            why = "it was never scored (--trainer.limit_val_batches?)" if value is None else f"its {SCORE} is {value}"
            return self.work.finish(FAILED, None, took, why)
        if self.work.process is not None:  # nobody knows how it ended: whoever takes it on now goes on with it
            self.work.leave()
            return None
        return self.work.finish(FAILED, None, took, self._why(status))

    def _summary(self) -> dict[str, Any]:
        """What the run says of itself at its end; empty before."""
        try:
            return read_run(self.run).summary
        except ValueError:
            return {}

    def _why(self, status: int) -> str:
        """The line in which it said what is wrong; or its last one, and how it ended."""
        lines = _last_lines(self.output)
        said = next((match[1] for line in reversed(lines) if (match := ERROR.search(line))), None)
        if said is not None:
            return said
        if status in STOPPED:
            return "somebody else stopped it (--retry_failed tries it once more)"
        if status < 0:
            return f"it was ended by signal {-status}{' (is memory full?)' if status == -9 else ''}"
        return (lines[-1] if lines else "it ended without a word") + (f" (exit status {status})" if status else "")


def _last_lines(path: Path, size: int = 20_000) -> list[str]:
    """The lines at the end of a file that are not empty."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
