"""Fits of scaling laws to points with known parameters, and confidence intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nanochat.analysis.scaling_law import fit
from nanochat.analysis.statistics import mean_of, student_t

SIZES = np.array([1e5, 3e5, 1e6, 3e6, 1e7])


def true_law(x: np.ndarray | float) -> np.ndarray:
    return np.asarray(0.8 + 30 * np.asarray(x) ** -0.3)


def test_exact_fit_without_noise() -> None:
    law = fit(list(SIZES), list(true_law(SIZES)))
    assert law.floor == pytest.approx(0.8, abs=1e-4)
    assert law.factor == pytest.approx(30, rel=1e-3)
    assert law.exponent.value == pytest.approx(0.3, abs=1e-4)
    assert law.predict(1e8).value == pytest.approx(float(true_law(1e8)), abs=1e-5)


def test_interval_coverage() -> None:
    """About 95 % of the 95 % intervals contain the true value: of the exponent, and of the score of a new run."""
    random = np.random.default_rng(0)
    exponents, predictions = [], []
    for _ in range(150):
        law = fit(list(SIZES), list(true_law(SIZES) + random.normal(0, 0.005, len(SIZES))))
        exponents.append(law.exponent.low <= 0.3 <= law.exponent.high)
        value, low, high = law.predict(3e7)
        assert low < value < high
        predictions.append(low <= true_law(3e7) + random.normal(0, 0.005) <= high)
    assert 0.88 <= np.mean(exponents) <= 0.99
    assert 0.88 <= np.mean(predictions) <= 0.995


def test_no_floor_with_three_sizes() -> None:
    law = fit(list(SIZES[:3]), list(5 * SIZES[:3] ** -0.1))
    assert not law.has_floor
    assert law.floor == 0
    assert law.exponent.value == pytest.approx(0.1, abs=1e-5)
    assert law.factor == pytest.approx(5, rel=1e-3)


def test_fewer_points_widen_the_interval() -> None:
    noisy = true_law(SIZES[:4]) + np.array([0.01, -0.01, 0.02, -0.01])
    law = fit(list(SIZES[:4]), list(noisy))  # 4 points, 3 parameters: one degree of freedom
    assert law.exponent.high - law.exponent.low > 0.3
    assert fit(list(SIZES[:4]) * 2, list(noisy) * 2).exponent.low > law.exponent.low  # seeds that agree narrow it


def test_unbounded_exponent() -> None:
    law = fit([1, 2, 4, 8], [2.0, 1.2, 1.9, 1.1])
    assert law.exponent.low == 0.0
    assert law.exponent.high == math.inf


@pytest.mark.parametrize(
    ("sizes", "scores", "message"),
    [
        ([1e5, 1e6], [2.0, 1.5], "at least 3 different sizes, but there are only 2"),
        ([1e5, 1e5, 1e6, 1e6], [2.0, 2.1, 1.5, 1.4], "there are only 2"),
        ([1e5, 1e6, 1e7], [1.0, 1.1, 1.2], "larger runs are not better"),
    ],
)
def test_errors(sizes: list[float], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(sizes, scores)


def test_mean_and_student_t() -> None:
    # mean 2, standard deviation 1, t of 2 degrees of freedom 4.303: 4.303 / sqrt(3) = 2.484
    value, low, high = mean_of([1.0, 2.0, 3.0])
    assert (value, low, high) == pytest.approx((2.0, 2 - 2.4843, 2 + 2.4843), abs=1e-3)
    assert math.isnan(mean_of([1.5]).low)
    assert student_t(40) == pytest.approx(2.0211, abs=1e-3)  # from a printed table
    assert student_t(10_000) == pytest.approx(1.9602, abs=1e-3)
