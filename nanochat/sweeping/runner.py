"""The work of a sweep: one trial after the other, as long as there is one to take on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tqdm import tqdm

from nanochat.sweeping.space import in_words
from nanochat.sweeping.storage import Storage, Work
from nanochat.sweeping.trial_process import Watched
from nanochat.sweeping.trials import DONE, RUNNING, Trial, superseded
from nanochat.training.console import clock, duration


class Sweep:
    """Works on the trials of a sweep, perhaps beside other processes.

    Args:
        storage: of the trials.
        command: how a trial is trained, as the words of a command line.
        prune: whether hopeless trials are ended.
    """

    def __init__(self, storage: Storage, command: Callable[[Trial], Sequence[str]], prune: bool) -> None:
        self.storage, self._command, self._prune = storage, command, prune

    def run(self) -> int:
        """Until there is nothing left to take on. After Ctrl-C the present trial saves its state before it raises.

        Returns:
            How many trials it has worked on.

        Raises:
            KeyboardInterrupt: and whatever else a signal is turned into.
        """
        count = 0
        while (work := self.storage.claim()) is not None:
            count += 1
            watched = Watched(work, self.storage.folder)
            try:
                with Line(self._place(work)) as line:
                    watched.start(self._command(work.trial))
                    ended = watched.wait(self._prune, line.show)
            except BaseException:
                watched.leave()
                raise
            if ended is not None:
                say(describe(ended))
        return count

    def _place(self, work: Work) -> str:
        """ "3 of 9  depth=4 matrix_lr=0.01" """
        trials = superseded(self.storage.trials())
        begun = sum(trial.number <= work.trial.number for trial in trials)
        setting = f"{in_words(work.trial.setting)} (trial {work.trial.number})"
        if work.process is not None:
            say(f"{setting} is still being trained, by process {work.process.pid}, and is waited for.")
        elif work.begun:
            say(f"{setting} was interrupted, and goes on.")
        seed = f" seed={work.trial.seed}" if len(self.storage.seeds) > 1 else ""
        return f"{begun} of {len(trials) + self.storage.left()}  {in_words(work.trial.setting)}{seed}"


class Line:
    """A line on a terminal that shows how the present trial is doing; nothing where the output is a file.

    Args:
        begin: what it begins with.
    """

    def __init__(self, begin: str) -> None:
        self._begin = begin
        self._bar: tqdm | None = None

    def __enter__(self) -> Line:
        if sys.stderr.isatty():
            self._bar = tqdm(bar_format="{desc}", dynamic_ncols=True, leave=False)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, scores: Sequence[float], seconds: float) -> None:
        """All val/bpb so far, and the seconds."""
        if self._bar is not None:
            score = f"  val/bpb {scores[-1]:.4f}" if scores else ""
            self._bar.set_description_str(f"{self._begin}  {clock(seconds)}{score}")


def describe(trial: Trial) -> str:
    """A trial that has ended, in a line."""
    said = f"trial {trial.number}  {in_words(trial.setting)} seed={trial.seed}  "
    took = f" ({duration(trial.seconds)})" if trial.seconds is not None else ""
    if trial.status == DONE:
        return f"{said}val/bpb {trial.value:.4f}{took}"
    score = f" at val/bpb {trial.value:.4f}" if trial.value is not None else ""
    return f"{said}{trial.status}{score}{took}" + (f": {trial.reason}" if trial.reason else "")


def running(trials: Sequence[Trial]) -> int:
    """How many are being worked on, by whichever process."""
    return sum(trial.status == RUNNING for trial in trials)


def say(text: str) -> None:
    """Prints above the line, if there is one."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()
