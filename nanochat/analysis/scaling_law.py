"""The law by which larger models, or more compute, are better: fitted to a few runs, with how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanochat.analysis.statistics import Estimate, student_t

LEAST_SIZES = 3  # different ones
SIZES_FOR_FLOOR = 4  # so many for the floor to be fitted, too: any three points lie on a curve of three parameters
EXPONENTS = np.geomspace(0.005, 3.0, 3000)  # that are tried; published ones lie between 0.03 and 0.5


@dataclass(frozen=True)
class ScalingLaw:
    """L(x) = floor + factor * x ** -exponent, fitted to points by least squares.

    Attributes:
        floor: what no size would get below; 0 where there are too few sizes to tell.
        factor: of the power, for x as it was given.
        exponent: with its 95 % interval. An end at 0 or at infinity means: not bounded by these points.
        deviation: of the points from the law: its residual standard deviation.
        has_floor: whether the floor was fitted.
        sizes: how many different ones there were.
    """

    floor: float
    factor: float
    exponent: Estimate
    deviation: float
    has_floor: bool
    sizes: int
    _x: np.ndarray
    _y: np.ndarray

    def __call__(self, x: np.ndarray | float) -> np.ndarray:
        return np.asarray(self.floor + self.factor * np.asarray(x, dtype=float) ** -self.exponent.value)

    def predict(self, x: float) -> Estimate:
        """What one more run of a size would come to, with the 95 % interval for that run (not for a mean of many)."""
        value = float(self(x))
        low, high = _band(self._x, self._y, x, self.has_floor)
        noise = student_t(self._degrees) * self.deviation
        return Estimate(value, value - math.hypot(value - low, noise), value + math.hypot(high - value, noise))

    @property
    def _degrees(self) -> int:
        return len(self._x) - (3 if self.has_floor else 2)

    @property
    def formula(self) -> str:
        """In words for a legend: "0.8 + 12.3 x^-0.21"."""
        floor = f"{self.floor:.3g} + " if self.has_floor else ""
        return f"{floor}{self.factor:.3g} x^-{self.exponent.value:.3g}"


def fit(sizes: Sequence[float], scores: Sequence[float]) -> ScalingLaw:
    """Fits L = E + A x^-a (Hoffmann et al., arXiv 2203.15556, for one of its variables; Kaplan et al., 2001.08361).

    For each exponent the best floor and factor follow from linear least squares; of all exponents the one with the
    smallest sum of squares S is taken, and those with S up to S_min (1 + t^2 / degrees of freedom) are its interval
    (the profile t interval: Bates and Watts, Nonlinear Regression Analysis, 1988, section 6.1.2). With few points this
    tells more of the truth than a bootstrap, which cannot draw what was never measured.

    Args:
        sizes: of each run, above 0: parameters, FLOPs, tokens.
        scores: of each run, such as bits per byte. Several of one size (seeds) all count.

    Raises:
        ValueError: if there are fewer than three different sizes, or the larger ones are no better.
    """
    x, y = np.asarray(sizes, dtype=float), np.asarray(scores, dtype=float)
    different = len(np.unique(np.round(np.log(x), 6)))
    if different < LEAST_SIZES:
        raise ValueError(f"a fit needs runs of at least {LEAST_SIZES} different sizes, and here are {different}")
    has_floor = different >= SIZES_FOR_FLOOR
    best, floor, factor, least = _best(x, y, has_floor)
    if factor <= 0 or np.corrcoef(np.log(x), y)[0, 1] >= 0:
        raise ValueError("the larger ones are not better here, so there is no law to fit")
    degrees = len(x) - (3 if has_floor else 2)
    squares, _, _ = _profile(x, y, has_floor, EXPONENTS)
    inside = EXPONENTS[squares <= _bound(least, degrees)]
    low, high = min([best, *inside]), max([best, *inside])
    low, high = low if low > EXPONENTS[0] else 0.0, high if high < EXPONENTS[-1] else math.inf
    exponent, deviation = Estimate(best, float(low), float(high)), math.sqrt(least / degrees)
    return ScalingLaw(floor, factor * _middle(x) ** best, exponent, deviation, has_floor, different, x, y)


def _middle(x: np.ndarray) -> float:
    """The sizes are divided by this, so that their powers are numbers of ordinary size."""
    return float(np.exp(np.mean(np.log(x))))


def _bound(least: float, degrees: int) -> float:
    return least * (1 + student_t(degrees) ** 2 / degrees) + 1e-18


def _best(x: np.ndarray, y: np.ndarray, has_floor: bool) -> tuple[float, float, float, float]:
    """Exponent, floor, factor and sum of squares of the best fit: a search between ever nearer neighbours."""
    tried = EXPONENTS
    while True:
        squares, floors, factors = _profile(x, y, has_floor, tried)
        best = int(np.argmin(squares))
        if tried[-1] - tried[0] < 1e-9:
            return float(tried[best]), float(floors[best]), float(factors[best]), float(squares[best])
        tried = np.linspace(tried[max(0, best - 1)], tried[min(len(tried) - 1, best + 1)], 41)


def _profile(
    x: np.ndarray, y: np.ndarray, has_floor: bool, exponents: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each exponent the least sum of squares, with the floor (never below 0) and the factor."""
    powers = (x / _middle(x))[None, :] ** -exponents[:, None]  # (exponents, points)
    factors = (powers @ y) / (powers**2).sum(1)  # without a floor
    floors = np.zeros_like(factors)
    if has_floor:
        mean = powers.mean(1)
        slopes = ((powers - mean[:, None]) @ (y - y.mean())) / ((powers - mean[:, None]) ** 2).sum(1)
        free = y.mean() - slopes * mean
        floors = np.where(free > 0, free, 0.0)
        factors = np.where(free > 0, slopes, factors)
    squares = ((y - floors[:, None] - factors[:, None] * powers) ** 2).sum(1)
    return squares, floors, factors


def _band(x: np.ndarray, y: np.ndarray, at: float, has_floor: bool) -> tuple[float, float]:
    """The lowest and the highest value at a size of all laws that the points do not speak against.

    For one exponent the value at that size, L*, is a parameter of a linear model, and the sum of squares is a parabola
    in it: S + (L* - best)^2 / v with the parameter's variance factor v. So the values below the bound are known.
    """
    middle = _middle(x)
    exponent, _, _, least = _best(x, y, has_floor)
    exponents = np.array([exponent, *EXPONENTS])
    squares, floors, _ = _profile(x, y, has_floor, exponents)
    bound = _bound(least, len(x) - (3 if has_floor else 2))
    inside = squares <= bound
    powers, there = (x / middle) ** -exponents[inside, None], (at / middle) ** -exponents[inside]
    best = there * (powers @ y) / (powers**2).sum(1)  # without a floor
    variance = there**2 / (powers**2).sum(1)
    if has_floor:
        z = powers - there[:, None]
        around = z - z.mean(1, keepdims=True)
        spread = (around**2).sum(1)
        free = floors[inside] > 0
        best = np.where(free, y.mean() - (around @ (y - y.mean())) / spread * z.mean(1), best)
        variance = np.where(free, 1 / len(x) + z.mean(1) ** 2 / spread, variance)
    half = np.sqrt(np.maximum(0.0, variance * (bound - squares[inside])))
    return max(0.0, float((best - half).min())), float((best + half).max())
