"""95% confidence intervals of scores: how far a score may lie from its value on more questions of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BOOTSTRAP_SAMPLES = 10_000
CONFIDENCE = 0.95
Z = 1.959964  # a normal distribution has 95% of its mass within this many standard deviations


class Interval(NamedTuple):
    """A 95% confidence interval: the rule that makes it covers the true value in 95 of 100 cases."""

    low: float
    high: float

    def centred(self, baseline: float) -> Interval:
        """The interval of the centred accuracy, which is 0 at the baseline and 1 if every answer is right."""
        return Interval((self.low - baseline) / (1 - baseline), (self.high - baseline) / (1 - baseline))


def wilson_interval(right: float, items: int) -> Interval:
    """Wilson's interval of a proportion (J. Am. Stat. Assoc. 22, 1927).

    A bootstrap resamples the items: if all or none are right, so is every resample, and its interval has no width.
    Wilson's interval stays valid there and for few items.
    """
    share, square = right / items, Z * Z
    middle = (share + square / (2 * items)) / (1 + square / items)
    half = Z / (1 + square / items) * (share * (1 - share) / items + square / (4 * items * items)) ** 0.5
    # the formula gives exactly 0 and 1 at the ends, up to rounding
    return Interval(0.0 if right == 0 else max(0.0, middle - half), 1.0 if right == items else min(1.0, middle + half))


def bootstrap_interval(right: Sequence[int], samples: int) -> Interval:
    """Bootstrap interval (Efron, 1979) of the accuracy where each item was answered several times.

    Items are resampled together with all their answers, because answers to one item are correlated. If all items have
    the same number of right answers, resampling has no variance; then each item counts as one answer.

    Args:
        right: number of right samples of each item.
        samples: number of samples per item.
    """
    items = len(right)
    counts = np.bincount(right, minlength=samples + 1)  # number of items with 0, 1, ... right samples
    if counts.max() == items:
        return wilson_interval(right[0] / samples * items, items)
    drawn = np.random.default_rng(0).multinomial(items, counts / items, BOOTSTRAP_SAMPLES)
    shares = drawn @ np.arange(samples + 1) / (items * samples)
    low, high = np.quantile(shares, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def mean_interval(scores: Sequence[tuple[float, Interval]]) -> Interval:
    """The interval of the mean of independent scores, from the interval of each.

    The distances from the scores to the ends of their intervals add up in squares, as standard deviations do:
    Newcombe's square-and-add (Statistics in Medicine 17, 1998), for means by Zou, Huang and Zhang (Comput. Stat. Data
    Anal. 53, 2009). So a task with no right answer widens the interval upwards only. For a single score the result is
    its own interval.

    Args:
        scores: each with its interval.
    """
    mean = sum(value for value, _ in scores) / len(scores)
    down = sum((value - interval.low) ** 2 for value, interval in scores) ** 0.5 / len(scores)
    up = sum((interval.high - value) ** 2 for value, interval in scores) ** 0.5 / len(scores)
    return Interval(mean - down, mean + up)
