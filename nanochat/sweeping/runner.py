"""Runs the trials of a sweep one after the other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tqdm import tqdm

from nanochat.sweeping.space import describe_setting
from nanochat.sweeping.storage import ClaimedTrial, Storage
from nanochat.sweeping.trial_process import TrialProcess
from nanochat.sweeping.trials import DONE, RUNNING, Trial, latest_attempts
from nanochat.training.console import clock, duration


class SweepRunner:
    """Runs the trials of a sweep; several processes may do so at once.

    Args:
        storage: storage of the trials.
        command: returns the command line that trains a trial.
        prune: whether to stop trials that the pruner considers hopeless.
    """

    def __init__(self, storage: Storage, command: Callable[[Trial], Sequence[str]], prune: bool) -> None:
        self.storage, self._command, self._prune = storage, command, prune

    def run(self) -> int:
        """Runs trials until none is left to claim.

        Returns:
            The number of trials that were run.

        Raises:
            KeyboardInterrupt: or another exception of a signal handler, after the current trial has saved its state.
        """
        count = 0
        while (claimed := self.storage.claim()) is not None:
            count += 1
            process = TrialProcess(claimed, self.storage.folder)
            try:
                with StatusLine(self._label(claimed)) as line:
                    process.start(self._command(claimed.trial))
                    finished = process.wait(self._prune, line.show)
            except BaseException:
                process.interrupt()
                raise
            if finished is not None:
                print_line(describe_trial(finished))
        return count

    def _label(self, claimed: ClaimedTrial) -> str:
        """Prints whether the trial is resumed, and returns its label: "3 of 9  depth=4 matrix_lr=0.01"."""
        trials = latest_attempts(self.storage.trials())
        position = sum(trial.number <= claimed.trial.number for trial in trials)
        setting = describe_setting(claimed.trial.setting)
        if claimed.process is not None:
            pid = claimed.process.pid
            print_line(f"{setting} (trial {claimed.trial.number}) is still running in process {pid}: waiting for it.")
        elif claimed.resumed:
            print_line(f"{setting} (trial {claimed.trial.number}) was interrupted and is resumed.")
        seed = f" seed={claimed.trial.seed}" if len(self.storage.seeds) > 1 else ""
        return f"{position} of {len(trials) + self.storage.remaining()}  {setting}{seed}"


class StatusLine:
    """A terminal line with the status of the current trial; nothing if the output is not a terminal.

    Args:
        label: the beginning of the line.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: tqdm | None = None

    def __enter__(self) -> StatusLine:
        if sys.stderr.isatty():
            self._bar = tqdm(bar_format="{desc}", dynamic_ncols=True, leave=False)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, scores: Sequence[float], seconds: float) -> None:
        """Shows the last of all val/bpb so far, and the elapsed seconds."""
        if self._bar is not None:
            score = f"  val/bpb {scores[-1]:.4f}" if scores else ""
            self._bar.set_description_str(f"{self._label}  {clock(seconds)}{score}")


def describe_trial(trial: Trial) -> str:
    """A finished trial in one line."""
    label = f"trial {trial.number}  {describe_setting(trial.setting)} seed={trial.seed}  "
    took = f" ({duration(trial.seconds)})" if trial.seconds is not None else ""
    if trial.status == DONE:
        return f"{label}val/bpb {trial.value:.4f}{took}"
    score = f" at val/bpb {trial.value:.4f}" if trial.value is not None else ""
    return f"{label}{trial.status}{score}{took}" + (f": {trial.reason}" if trial.reason else "")


def count_running(trials: Sequence[Trial]) -> int:
    """Number of trials that any process works on."""
    return sum(trial.status == RUNNING for trial in trials)


def print_line(text: str) -> None:
    """Prints a line above the status line, if there is one."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()
