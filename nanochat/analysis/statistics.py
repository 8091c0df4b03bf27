"""Confidence intervals of means over a few runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

# Student's t for 1, 2, 3, ... degrees of freedom: 95 % of the distribution lie between -t and t.
T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
NORMAL95 = 1.95996


class Estimate(NamedTuple):
    """A value with the bounds of its interval; the bounds are NaN if they cannot be estimated."""

    value: float
    low: float
    high: float


def student_t(degrees: int) -> float:
    """Half the width of the 95 % interval of Student's t distribution.

    Above 30 degrees of freedom it is the first three terms of the expansion around the normal distribution (Abramowitz
    and Stegun, 26.7.5), accurate to 0.0001 there.
    """
    assert degrees >= 1
    if degrees <= len(T95):
        return T95[degrees - 1]
    z = NORMAL95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean with its 95 % interval (Student 1908); the bounds are NaN for a single value."""
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return Estimate(mean, math.nan, math.nan)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    half = student_t(count - 1) * deviation / math.sqrt(count)
    return Estimate(mean, mean - half, mean + half)
