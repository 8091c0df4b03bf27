"""Scaling laws fitted to a few runs, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanochat.analysis.statistics import Estimate, student_t

MIN_SIZES = 3  # distinct sizes
MIN_SIZES_FOR_FLOOR = 4  # a curve with three parameters passes through any three points
EXPONENTS = np.geomspace(0.005, 3.0, 3000)  # the search grid; published exponents lie between 0.03 and 0.5


@dataclass(frozen=True)
class ScalingLaw:
    """L(x) = floor + factor * x ** -exponent, fitted by least squares.

    Attributes:
        floor: the limit for x to infinity; 0 if there are too few sizes to fit it.
        factor: the coefficient of the power.
        exponent: with its 95 % interval. A bound of 0 or infinity means that the points do not bound it.
        residual_std: residual standard deviation of the points.
        has_floor: whether the floor was fitted.
        sizes: number of distinct sizes.
    """

    floor: float
    factor: float
    exponent: Estimate
    residual_std: float
    has_floor: bool
    sizes: int
    _x: np.ndarray
    _y: np.ndarray

    def __call__(self, x: np.ndarray | float) -> np.ndarray:
        return np.asarray(self.floor + self.factor * np.asarray(x, dtype=float) ** -self.exponent.value)

    def predict(self, x: float) -> Estimate:
        """The prediction for one more run of size x, with the 95 % prediction interval of that single run."""
        value = float(self(x))
        low, high = _band(self._x, self._y, x, self.has_floor)
        noise = student_t(self._degrees) * self.residual_std
        return Estimate(value, value - math.hypot(value - low, noise), value + math.hypot(high - value, noise))

    @property
    def _degrees(self) -> int:
        return len(self._x) - (3 if self.has_floor else 2)

    @property
    def formula(self) -> str:
        """The law as text for a legend: "0.8 + 12.3 x^-0.21"."""
        floor = f"{self.floor:.3g} + " if self.has_floor else ""
        return f"{floor}{self.factor:.3g} x^-{self.exponent.value:.3g}"


def fit(sizes: Sequence[float], scores: Sequence[float]) -> ScalingLaw:
    """Fits L = E + A x^-a (Kaplan et al., arXiv 2001.08361; Hoffmann et al., 2203.15556, in one variable).

    For a given exponent, the best floor and factor follow from linear least squares. The fitted exponent minimises the
    sum of squares S; its interval contains all exponents with S <= S_min (1 + t^2 / degrees of freedom), the profile t
    interval (Bates and Watts, Nonlinear Regression Analysis, 1988, section 6.1.2). With few points it is more reliable
    than a bootstrap, which only resamples the points that were measured.

    Args:
        sizes: (runs,), above 0: parameters, FLOPs or tokens.
        scores: (runs,), such as bits per byte. Several runs of one size (seeds) are several points.

    Raises:
        ValueError: if there are fewer than three distinct sizes, or larger sizes do not score better.
    """
    x, y = np.asarray(sizes, dtype=float), np.asarray(scores, dtype=float)
    distinct = len(np.unique(np.round(np.log(x), 6)))
    if distinct < MIN_SIZES:
        raise ValueError(f"a fit needs runs of at least {MIN_SIZES} different sizes, but there are only {distinct}")
    has_floor = distinct >= MIN_SIZES_FOR_FLOOR
    best, floor, factor, min_squares = _best(x, y, has_floor)
    if factor <= 0 or np.corrcoef(np.log(x), y)[0, 1] >= 0:
        raise ValueError("larger runs are not better here, so no law can be fitted")
    degrees = len(x) - (3 if has_floor else 2)
    squares, _, _ = _profile(x, y, has_floor, EXPONENTS)
    inside = EXPONENTS[squares <= _bound(min_squares, degrees)]
    low, high = min([best, *inside]), max([best, *inside])
    low, high = low if low > EXPONENTS[0] else 0.0, high if high < EXPONENTS[-1] else math.inf
    exponent, residual_std = Estimate(best, float(low), float(high)), math.sqrt(min_squares / degrees)
    return ScalingLaw(floor, factor * _geometric_mean(x) ** best, exponent, residual_std, has_floor, distinct, x, y)


def _geometric_mean(x: np.ndarray) -> float:
    """The geometric mean. Sizes are divided by it, so that their powers are close to 1."""
    return float(np.exp(np.mean(np.log(x))))


def _bound(min_squares: float, degrees: int) -> float:
    return min_squares * (1 + student_t(degrees) ** 2 / degrees) + 1e-18


def _best(x: np.ndarray, y: np.ndarray, has_floor: bool) -> tuple[float, float, float, float]:
    """Exponent, floor, factor and sum of squares of the best fit: a grid search, refined around the best point."""
    grid = EXPONENTS
    while True:
        squares, floors, factors = _profile(x, y, has_floor, grid)
        best = int(np.argmin(squares))
        if grid[-1] - grid[0] < 1e-9:
            return float(grid[best]), float(floors[best]), float(factors[best]), float(squares[best])
        grid = np.linspace(grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)], 41)


def _profile(
    x: np.ndarray, y: np.ndarray, has_floor: bool, exponents: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each exponent, (exponents,): the least sum of squares, with its floor (at least 0) and factor."""
    powers = (x / _geometric_mean(x))[None, :] ** -exponents[:, None]  # (exponents, points)
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
    """The lowest and the highest value at size ``at`` of all laws within the profile interval.

    For a given exponent, the value L* at that size is a parameter of a linear model, and the sum of squares is a
    parabola in it: S + (L* - best)^2 / v, with the variance factor v of the parameter. The values of L* whose sum of
    squares is below the bound follow in closed form.
    """
    mean_size = _geometric_mean(x)
    exponent, _, _, min_squares = _best(x, y, has_floor)
    exponents = np.array([exponent, *EXPONENTS])
    squares, floors, _ = _profile(x, y, has_floor, exponents)
    bound = _bound(min_squares, len(x) - (3 if has_floor else 2))
    inside = squares <= bound
    powers, there = (x / mean_size) ** -exponents[inside, None], (at / mean_size) ** -exponents[inside]
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
