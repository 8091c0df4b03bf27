"""95% confidence intervals: values computed by hand, and coverage on simulated scores."""

from __future__ import annotations

import numpy as np
import pytest

from nanochat.evaluation.chat_core import ChatScore, ChatTaskScore
from nanochat.evaluation.confidence_intervals import Interval, bootstrap_interval, mean_interval, wilson_interval
from nanochat.evaluation.core import CoreScore, CoreTaskScore


def test_wilson_interval() -> None:
    # z^2 / (n + z^2) for none right; by hand for 10 of 20
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.16113), abs=1e-5)
    assert wilson_interval(20, 20) == pytest.approx((1 - 0.16113, 1.0), abs=1e-5)
    assert wilson_interval(10, 20) == pytest.approx((0.29930, 0.70070), abs=1e-5)
    assert wilson_interval(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_mean_interval() -> None:
    low, high = mean_interval([(0.5, Interval(0.3, 0.6)), (0.0, Interval(0.0, 0.4))])
    assert low == pytest.approx(0.25 - 0.2 / 2)
    assert high == pytest.approx(0.25 + (0.1**2 + 0.4**2) ** 0.5 / 2)
    assert mean_interval([(0.5, Interval(0.3, 0.6))]) == pytest.approx((0.3, 0.6))
    one, many = (mean_interval([(0.5, Interval(0.3, 0.7))] * tasks) for tasks in (1, 16))
    assert one.high - one.low == pytest.approx(4 * (many.high - many.low))


def test_bootstrap_resamples_items() -> None:
    one_each = bootstrap_interval([1] * 50 + [0] * 50, 1)
    assert one_each == pytest.approx(wilson_interval(50, 100), abs=0.015)
    # identical samples add no information
    assert bootstrap_interval([10] * 50 + [0] * 50, 10) == pytest.approx(one_each, abs=0.015)
    spread = bootstrap_interval([4, 6] * 50, 10)
    assert spread.high - spread.low < 0.1
    assert bootstrap_interval([0] * 20, 10) == wilson_interval(0, 20)
    assert bootstrap_interval([10] * 20, 10) == wilson_interval(20, 20)
    assert bootstrap_interval([5] * 20, 10) == wilson_interval(10, 20)


def test_zero_right_answers_still_have_an_interval() -> None:
    core = CoreScore([CoreTaskScore(name, 0, 20, 0.0, "language_modeling", 0) for name in ("jeopardy", "squad")])
    assert core.value == core.interval.low == 0
    assert core.interval.high == pytest.approx(0.16113 / 2**0.5, abs=1e-5)
    chat = ChatScore(
        [ChatTaskScore("gsm8k", "answer", 0.0, (0,) * 20), ChatTaskScore("spelling-bee", "answer", 0.0, (1,) * 20)]
    )
    assert chat.interval == pytest.approx((0.5 - 0.16113 / 2, 0.5 + 0.16113 / 2), abs=1e-5)


def test_centred_interval() -> None:
    assert Interval(0.25, 1.0).centred(0.25) == (0, 1)
    assert Interval(0.1, 0.55).centred(0.25) == pytest.approx((-0.2, 0.4))


@pytest.mark.parametrize("items", [20, 100])
def test_coverage_of_the_mean_interval(items: int) -> None:
    """With true accuracies like those of a small model on CORE, some of them near zero."""
    rng = np.random.default_rng(0)
    accuracies = np.array(
        [0.01, 0.01, 0.02, 0.005, 0.0, 0.03, 0.15, 0.25, 0.28, 0.3, 0.4, 0.5, 0.52, 0.55, 0.6, 0.62, 0.7, 0.9]
    )
    covered = 0
    for right in rng.binomial(items, accuracies, size=(500, len(accuracies))):
        low, high = mean_interval([(count / items, wilson_interval(int(count), items)) for count in right])
        covered += low <= accuracies.mean() <= high
    assert 0.93 <= covered / 500 <= 0.99
