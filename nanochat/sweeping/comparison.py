"""Ranks the settings of a sweep, and tests whether their differences are larger than the noise between runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from nanochat.analysis.statistics import student_t
from nanochat.sweeping.space import Setting
from nanochat.sweeping.trials import DONE, Trial, setting_key

DIGITS = 9  # effects are rounded to these, so that settings with equal scores do not differ by floating-point errors


@dataclass(frozen=True)
class SettingResult:
    """The trials of one setting.

    Attributes:
        setting: values of the varied options.
        trials: all trials of the setting, of any status.
    """

    setting: Setting
    trials: tuple[Trial, ...]

    @property
    def scores(self) -> dict[int, float]:
        """The val/bpb of its completed trials, by seed."""
        return {trial.seed: trial.value for trial in self.trials if trial.status == DONE and trial.value is not None}

    @property
    def mean(self) -> float:
        """The mean score; infinite without scores."""
        return fmean(self.scores.values()) if self.scores else math.inf

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation of the scores; None with fewer than two."""
        return stdev(self.scores.values()) if len(self.scores) > 1 else None


@dataclass(frozen=True)
class Difference:
    """The estimated difference of two settings.

    Attributes:
        value: difference of their scores, positive if the first setting is better.
        standard_error: of the value; None if it cannot be estimated.
        degrees_of_freedom: of the standard error.
    """

    value: float
    standard_error: float | None
    degrees_of_freedom: int

    @property
    def margin(self) -> float:
        """The 95 % margin of error: equally good settings differ by more than this in 5 % of cases (Student's t)."""
        assert self.standard_error is not None
        return student_t(self.degrees_of_freedom) * self.standard_error


class RandomizedBlocks:
    """A randomized block design: score = mean + effect of the setting + effect of the seed + noise.

    All settings are trained with the same seeds: the same data order and, for equal shapes, the same initial weights.
    The effect of a seed on all settings does not concern their differences, so it is removed before the noise is
    estimated (R. A. Fisher, The Design of Experiments, 1935). For two settings this is Student's paired t-test. With
    more settings, the noise is estimated from all of them, assuming equal variance. The effects are fitted by least
    squares, so a setting may lack some of the seeds.

    Args:
        scores: the scores of each setting by seed; none of them empty.
    """

    def __init__(self, scores: Sequence[Mapping[int, float]]) -> None:
        self._scores = scores
        seeds = sorted({seed for by_seed in scores for seed in by_seed})
        columns = [(row, len(scores) + seeds.index(seed)) for row, by_seed in enumerate(scores) for seed in by_seed]
        values = np.array([value for by_seed in scores for value in by_seed.values()])
        design = np.zeros((len(values), len(scores) + len(seeds)))  # (trials, settings + seeds)
        for trial, (setting, seed) in enumerate(columns):
            design[trial, [setting, seed]] = 1.0
        self._inverse = np.linalg.pinv(design.T @ design)
        self._effects = self._inverse @ design.T @ (values - values.mean())
        residuals = values - values.mean() - design @ self._effects
        self.degrees_of_freedom = len(values) - int(np.linalg.matrix_rank(design))
        self.deviation = (
            math.sqrt(float(residuals @ residuals) / self.degrees_of_freedom) if self.degrees_of_freedom else None
        )

    def effect(self, setting: int) -> float:
        """The effect of a setting, given by its index; lower is better. Only differences of effects are meaningful."""
        return round(float(self._effects[setting]), DIGITS)

    def difference(self, first: int, second: int) -> Difference:
        """The difference of two settings, given by their indices; without a common seed it has no standard error."""
        one, other = self._scores[first], self._scores[second]
        if not one.keys() & other.keys():
            return Difference(fmean(other.values()) - fmean(one.values()), None, 0)
        contrast = np.zeros(len(self._effects))
        contrast[second], contrast[first] = 1.0, -1.0
        error = None
        if self.deviation is not None:
            error = self.deviation * math.sqrt(float(contrast @ self._inverse @ contrast))
        return Difference(float(contrast @ self._effects), error, self.degrees_of_freedom)


def rank_settings(trials: Sequence[Trial]) -> list[SettingResult]:
    """The settings by their estimated effect, the best first; those without a score last, in their original order."""
    settings = {setting_key(trial.setting): trial.setting for trial in trials}
    results = [
        SettingResult(setting, tuple(trial for trial in trials if setting_key(trial.setting) == key))
        for key, setting in settings.items()
    ]
    scored = [result for result in results if result.scores]
    if not scored:
        return results
    blocks = RandomizedBlocks([result.scores for result in scored])
    order = sorted(range(len(scored)), key=blocks.effect)
    return [*(scored[index] for index in order), *(result for result in results if not result.scores)]


def compare(first: SettingResult, second: SettingResult, results: Sequence[SettingResult]) -> Difference:
    """The difference of two settings, with the noise estimated from all results that have scores."""
    scored = [result for result in results if result.scores]
    blocks = RandomizedBlocks([result.scores for result in scored])
    return blocks.difference(scored.index(first), scored.index(second))
