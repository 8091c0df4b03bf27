"""How far a score may lie from what it would be on more questions of the same kind: 95% intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 10_000
INSIDE = 0.95  # of the draws
Z = 1.959964  # 95% of a normal distribution lie within so many standard deviations


class Interval(NamedTuple):
    """Made by a rule that holds the true figure in 95 of 100 cases."""

    low: float
    high: float

    def centred(self, baseline: float) -> Interval:
        """Of the accuracy above chance: 0 at the baseline, 1 if everything is right."""
        return Interval((self.low - baseline) / (1 - baseline), (self.high - baseline) / (1 - baseline))


def of_accuracy(right: float, items: int) -> Interval:
    """Wilson's interval for a share (J. Am. Stat. Assoc. 22, 1927).

    A bootstrap would draw the items again; where all or none of them are right, so are all of its draws, and its
    interval has no width. This one is right there, too, and for few items.
    """
    share, square = right / items, Z * Z
    middle = (share + square / (2 * items)) / (1 + square / items)
    half = Z / (1 + square / items) * (share * (1 - share) / items + square / (4 * items * items)) ** 0.5
    # at the ends the formula is exact, but for rounding
    return Interval(0.0 if right == 0 else max(0.0, middle - half), 1.0 if right == items else min(1.0, middle + half))


def of_samples(right: Sequence[int], samples: int) -> Interval:
    """Of the share of right answers where each item was answered several times: bootstrap (Efron, 1979).

    The items are drawn again with all of their answers, because those to the same item are alike. Where all items have
    as many right answers, that says nothing, and each item counts as one answer.

    Args:
        right: of each item, how many of its samples were right.
        samples: of each item.
    """
    items = len(right)
    counts = np.bincount(right, minlength=samples + 1)  # items by how many of their samples are right
    if counts.max() == items:
        return of_accuracy(right[0] / samples * items, items)
    drawn = np.random.default_rng(0).multinomial(items, counts / items, DRAWS)
    shares = drawn @ np.arange(samples + 1) / (items * samples)
    low, high = np.quantile(shares, [(1 - INSIDE) / 2, (1 + INSIDE) / 2])
    return Interval(float(low), float(high))


def of_mean(figures: Sequence[tuple[float, Interval]]) -> Interval:
    """Of the mean of independent figures, from the interval of each.

    The distances from the figures to the ends of their intervals add up as standard deviations do: Newcombe's square
    and add (Statistics in Medicine 17, 1998), for means by Zou, Huang and Zhang (Comput. Stat. Data Anal. 53, 2009). So
    a task with none right widens it upwards, as it should; of a single figure it is that figure's own.

    Args:
        figures: each with its interval.
    """
    mean = sum(value for value, _ in figures) / len(figures)
    down = sum((value - interval.low) ** 2 for value, interval in figures) ** 0.5 / len(figures)
    up = sum((interval.high - value) ** 2 for value, interval in figures) ** 0.5 / len(figures)
    return Interval(mean - down, mean + up)
