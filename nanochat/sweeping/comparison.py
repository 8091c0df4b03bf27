"""Which setting was best, and by how much against what chance does between two trainings with the same seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from nanochat.analysis.statistics import student_t
from nanochat.sweeping.space import Setting
from nanochat.sweeping.trials import DONE, Trial, key_of

DIGITS = 9  # in which settings of the same score do not differ, whatever rounding makes of them


@dataclass(frozen=True)
class Result:
    """What came of one setting.

    Attributes:
        setting: which one.
        trials: all of it, whatever became of them.
    """

    setting: Setting
    trials: tuple[Trial, ...]

    @property
    def scores(self) -> dict[int, float]:
        """The val/bpb of its trials that are done, by their seeds."""
        return {trial.seed: trial.value for trial in self.trials if trial.status == DONE and trial.value is not None}

    @property
    def mean(self) -> float:
        """Of the scores; infinite where there is none."""
        return fmean(self.scores.values()) if self.scores else math.inf

    @property
    def deviation(self) -> float | None:
        """Between the seeds (the sample's standard deviation); None with fewer than two scores."""
        return stdev(self.scores.values()) if len(self.scores) > 1 else None


@dataclass(frozen=True)
class Lead:
    """By how much one setting is ahead of another.

    Attributes:
        value: the difference of their scores, positive if the first is better.
        error: its standard error; None if that cannot be told.
        freedom: the degrees of freedom that the error was estimated with.
    """

    value: float
    error: float | None
    freedom: int

    @property
    def by_chance(self) -> float:
        """Two settings that are equally good seem to differ by more than this once in twenty times (Student's t)."""
        assert self.error is not None
        return student_t(self.freedom) * self.error


class SeedBySeed:
    """Scores taken apart: what the setting does, plus what the seed does to all settings alike, plus chance.

    All settings are trained with the same seeds: the same order of the text, and, where the shapes are the same, the
    same first weights. What a seed does to all of them says nothing of their difference, so it is taken off before
    chance is measured: a randomized block design (R. A. Fisher, The Design of Experiments, 1935). Of two settings it
    is Student's test of their paired differences. With more, chance is estimated from all of them, and taken to be
    alike in all. The parts are found by least squares, so that a setting may lack some of the seeds.

    Args:
        scores: of each setting, by its seeds; none of them empty.
    """

    def __init__(self, scores: Sequence[Mapping[int, float]]) -> None:
        self._scores = scores
        seeds = sorted({seed for of in scores for seed in of})
        places = [(row, len(scores) + seeds.index(seed)) for row, of in enumerate(scores) for seed in of]
        values = np.array([value for of in scores for value in of.values()])
        parts = np.zeros((len(values), len(scores) + len(seeds)))  # (scores, settings and then seeds)
        for trial, (setting, seed) in enumerate(places):
            parts[trial, [setting, seed]] = 1.0
        self._inverse = np.linalg.pinv(parts.T @ parts)
        self._effects = self._inverse @ parts.T @ (values - values.mean())
        rest = values - values.mean() - parts @ self._effects
        self.freedom = len(values) - int(np.linalg.matrix_rank(parts))
        self.deviation = math.sqrt(float(rest @ rest) / self.freedom) if self.freedom else None

    def effect(self, setting: int) -> float:
        """What the setting at this place does: lower is better. Only differences of them mean something."""
        return round(float(self._effects[setting]), DIGITS)

    def lead(self, first: int, second: int) -> Lead:
        """Of one setting before another, by their places. Without a seed in common nobody knows how sure it is."""
        one, other = self._scores[first], self._scores[second]
        if not one.keys() & other.keys():
            return Lead(fmean(other.values()) - fmean(one.values()), None, 0)
        contrast = np.zeros(len(self._effects))
        contrast[second], contrast[first] = 1.0, -1.0
        error = None
        if self.deviation is not None:
            error = self.deviation * math.sqrt(float(contrast @ self._inverse @ contrast))
        return Lead(float(contrast @ self._effects), error, self.freedom)


def results(trials: Sequence[Trial]) -> list[Result]:
    """The settings, the best first as if each had all seeds; those without a score last, in their order."""
    settings = {key_of(trial.setting): trial.setting for trial in trials}
    found = [Result(s, tuple(t for t in trials if key_of(t.setting) == key)) for key, s in settings.items()]
    scored = [result for result in found if result.scores]
    if not scored:
        return found
    parts = SeedBySeed([result.scores for result in scored])
    order = sorted(range(len(scored)), key=parts.effect)
    return [*(scored[place] for place in order), *(result for result in found if not result.scores)]


def lead(first: Result, second: Result, among: Sequence[Result]) -> Lead:
    """Of one setting before another; chance is measured by all that have scores."""
    scored = [result for result in among if result.scores]
    return SeedBySeed([result.scores for result in scored]).lead(scored.index(first), scored.index(second))
