"""How far a score may lie from what it would be on more questions of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 10_000
INSIDE = 0.95  # of the draws


class Interval(NamedTuple):
    """Where 95% of the bootstrap's draws lie."""

    low: float
    high: float


def of_accuracy(right: int, items: int) -> Interval:
    """Bootstrap (Efron 1979): the items drawn again, with replacement, as often as there are.

    Each is right or wrong, so that the number of right ones drawn follows a binomial distribution, and need not be
    counted out. Where all or none are right, so are all draws: the interval then has no width, and says too much.
    """
    return _inside(_draws(right, items, 0))


def of_mean(results: Sequence[tuple[int, int, float]]) -> Interval:
    """Of the mean of centred accuracies, each task's items drawn again.

    Args:
        results: right answers, items and baseline of each task.
    """
    centred = [
        (_draws(right, items, seed) - baseline) / (1 - baseline)
        for seed, (right, items, baseline) in enumerate(results)
    ]
    return _inside(np.mean(centred, axis=0))


def _draws(right: int, items: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).binomial(items, right / items, DRAWS) / items


def _inside(draws: np.ndarray) -> Interval:
    low, high = np.quantile(draws, [(1 - INSIDE) / 2, (1 + INSIDE) / 2])
    return Interval(float(low), float(high))
