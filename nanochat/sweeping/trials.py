"""The trials of a sweep: what is known of each, and which are still wanted."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nanochat.sweeping.space import Axis, Setting, grid

DONE, FAILED, PRUNED, RUNNING, INTERRUPTED = "done", "failed", "pruned", "running", "interrupted"


@dataclass(frozen=True)
class Trial:
    """One run of a sweep, ``version_<number>`` of its folder.

    Attributes:
        number: of the trial.
        setting: what it was given beside the options of all.
        seed: that it ran with.
        status: done, failed, pruned, running, or interrupted: begun, and nobody works on it.
        value: its val/bpb at the end; of another one than a done one, the last there was; None if there is none.
        seconds: that it took; None before its end.
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
        """What tells it from others."""
        return key_of(self.setting), self.seed


class Wanted(NamedTuple):
    """What is still to be begun.

    Attributes:
        known: settings with a seed, in the order in which they are to be tried.
        draws: how many settings are to be drawn beside them.
    """

    known: list[tuple[Setting, int]]
    draws: int


def key_of(setting: Setting) -> str:
    return json.dumps(setting, sort_keys=True)


def wanted(
    axes: Sequence[Axis],
    seeds: Sequence[int],
    search: int | None,
    trials: Sequence[Trial],
    again: Collection[int] = (),
) -> Wanted:
    """What a sweep has still to begin.

    A grid tries all settings with the first seed, then all with the second: if it is stopped on the way, what is there
    can be compared. A search repeats a setting before it draws the next. A setting that failed or was pruned is not
    tried with other seeds.

    Args:
        axes: what is varied.
        seeds: that each setting is repeated with.
        search: how many settings are drawn; None for a grid.
        trials: that have been begun.
        again: the numbers of those that failed and are to be done once more.
    """
    settled = [trial for trial in trials if trial.number not in again]
    begun = {trial.key for trial in settled}
    given_up = {key_of(trial.setting) for trial in settled if trial.status in (FAILED, PRUNED)}

    def missing(setting: Setting, seed: int) -> bool:
        key = key_of(setting)
        return key not in given_up and (key, seed) not in begun

    if search is None:
        settings = list(grid(axes))
        return Wanted([(setting, seed) for seed in seeds for setting in settings if missing(setting, seed)], 0)
    settings = list({key_of(trial.setting): trial.setting for trial in trials}.values())
    pairs = [(setting, seed) for setting in settings for seed in seeds if missing(setting, seed)]
    return Wanted(pairs, max(0, search - len(settings)))


def superseded(trials: Sequence[Trial]) -> list[Trial]:
    """The trials without those that failed and were then done once more."""
    newest = {trial.key: trial.number for trial in trials}
    return [trial for trial in trials if newest[trial.key] == trial.number]
