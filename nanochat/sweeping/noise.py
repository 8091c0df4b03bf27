"""Which setting was best, and by how much against what the seeds alone do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from nanochat.analysis.statistics import student_t
from nanochat.sweeping.space import Setting
from nanochat.sweeping.trials import DONE, Trial, key_of


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
    def values(self) -> list[float]:
        """The val/bpb of its trials that are done, a seed each."""
        return [trial.value for trial in self.trials if trial.status == DONE and trial.value is not None]

    @property
    def mean(self) -> float:
        """Of the values; infinite where there is none."""
        return fmean(self.values) if self.values else math.inf

    @property
    def deviation(self) -> float | None:
        """Between the seeds (the sample's standard deviation); None with fewer than two values."""
        count = len(self.values)
        return math.sqrt(_squares(self.values) / (count - 1)) if count > 1 else None


@dataclass(frozen=True)
class Noise:
    """What seeds alone do, taken from all settings that have several.

    Attributes:
        deviation: of one value: the settings' own deviations pooled (the square root of their mean variance, weighted
            by degrees of freedom), which takes them to be alike.
        freedom: degrees of freedom: of each setting, the number of values less one.
    """

    deviation: float
    freedom: int

    def of_difference(self, first: int, second: int) -> float:
        """The standard error of the difference between the means of so many values."""
        return self.deviation * math.sqrt(1 / first + 1 / second)

    @property
    def quantile(self) -> float:
        """So many standard errors are exceeded by chance alone once in twenty times."""
        return student_t(self.freedom)


def results(trials: Sequence[Trial]) -> list[Result]:
    """The settings, the best first; those without a value last, in their order."""
    settings = {key_of(trial.setting): trial.setting for trial in trials}
    found = [Result(s, tuple(t for t in trials if key_of(t.setting) == key)) for key, s in settings.items()]
    return sorted(found, key=lambda result: result.mean)


def noise(found: Sequence[Result]) -> Noise | None:
    """What seeds alone do; None if no setting has several values."""
    freedom = sum(max(0, len(result.values) - 1) for result in found)
    squares = sum(_squares(result.values) for result in found if result.values)
    return Noise(math.sqrt(squares / freedom), freedom) if freedom else None


def _squares(values: Sequence[float]) -> float:
    """The sum of the squared distances from the mean."""
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values)
