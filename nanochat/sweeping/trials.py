"""The trials of a sweep, and which trials are still to be started."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nanochat.sweeping.space import Axis, Setting, grid

DONE, FAILED, PRUNED, RUNNING, INTERRUPTED = "done", "failed", "pruned", "running", "interrupted"


@dataclass(frozen=True)
class Trial:
    """One run of a sweep, ``version_<number>`` in its folder.

    Attributes:
        number: number of the trial.
        setting: values of the varied options.
        seed: seed of the run.
        status: ``DONE``, ``FAILED``, ``PRUNED``, ``RUNNING``, or ``INTERRUPTED`` (started, but no process works on it).
        value: final val/bpb if it is done, otherwise the last validation so far; None before the first.
        seconds: training time; None before its end.
        reason: why it failed.
    """

    number: int
    setting: Setting
    seed: int
    status: str
    value: float | None = None
    seconds: float | None = None
    reason: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Identifies the setting and the seed."""
        return setting_key(self.setting), self.seed


class Pending(NamedTuple):
    """Trials that are still to be started.

    Attributes:
        known: known settings with a seed, in the order in which they are tried.
        draws: number of settings still to be drawn by the sampler.
    """

    known: list[tuple[Setting, int]]
    draws: int


def setting_key(setting: Setting) -> str:
    """A string that identifies a setting, independent of the order of its options."""
    return json.dumps(setting, sort_keys=True)


def pending_trials(
    axes: Sequence[Axis],
    seeds: Sequence[int],
    search: int | None,
    trials: Sequence[Trial],
    retry: Collection[int] = (),
) -> Pending:
    """The trials that a sweep has still to start.

    A grid tries all settings with the first seed, then all with the second, so that the results of an incomplete sweep
    are comparable. A search repeats a setting with all seeds before it draws the next. A setting that failed or was
    pruned is not tried with other seeds.

    Args:
        axes: the varied options.
        seeds: the seeds of each setting.
        search: number of settings to draw; None for a grid.
        trials: the trials that have been started.
        retry: numbers of the failed trials to retry.
    """
    settled = [trial for trial in trials if trial.number not in retry]
    started = {trial.key for trial in settled}
    given_up = {setting_key(trial.setting) for trial in settled if trial.status in (FAILED, PRUNED)}

    def missing(setting: Setting, seed: int) -> bool:
        key = setting_key(setting)
        return key not in given_up and (key, seed) not in started

    if search is None:
        settings = list(grid(axes))
        return Pending([(setting, seed) for seed in seeds for setting in settings if missing(setting, seed)], 0)
    settings = list({setting_key(trial.setting): trial.setting for trial in trials}.values())
    pairs = [(setting, seed) for setting in settings for seed in seeds if missing(setting, seed)]
    return Pending(pairs, max(0, search - len(settings)))


def latest_attempts(trials: Sequence[Trial]) -> list[Trial]:
    """The trials without the failed ones that have been retried."""
    newest = {trial.key: trial.number for trial in trials}
    return [trial for trial in trials if newest[trial.key] == trial.number]
