"""95% intervals: by hand, and by how often they hold what they must."""

from __future__ import annotations

import numpy as np
import pytest

from nanochat.evaluation.chat_core import ChatResult, ChatScore
from nanochat.evaluation.confidence_intervals import Interval, of_accuracy, of_mean, of_samples
from nanochat.evaluation.core import CoreScore, TaskScore


def test_of_an_accuracy() -> None:
    # z^2 / (n + z^2) for none right; by hand for 10 of 20
    assert of_accuracy(0, 20) == pytest.approx((0.0, 0.16113), abs=1e-5)
    assert of_accuracy(20, 20) == pytest.approx((1 - 0.16113, 1.0), abs=1e-5)
    assert of_accuracy(10, 20) == pytest.approx((0.29930, 0.70070), abs=1e-5)
    assert of_accuracy(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_of_a_mean() -> None:
    low, high = of_mean([(0.5, Interval(0.3, 0.6)), (0.0, Interval(0.0, 0.4))])
    assert low == pytest.approx(0.25 - 0.2 / 2)
    assert high == pytest.approx(0.25 + (0.1**2 + 0.4**2) ** 0.5 / 2)
    assert of_mean([(0.5, Interval(0.3, 0.6))]) == pytest.approx((0.3, 0.6))
    one, many = (of_mean([(0.5, Interval(0.3, 0.7))] * tasks) for tasks in (1, 16))
    assert one.high - one.low == pytest.approx(4 * (many.high - many.low))


def test_of_several_samples_the_items_count() -> None:
    one_each = of_samples([1] * 50 + [0] * 50, 1)
    assert one_each == pytest.approx(of_accuracy(50, 100), abs=0.015)
    assert of_samples([10] * 50 + [0] * 50, 10) == pytest.approx(one_each, abs=0.015)  # alike: not ten times as much
    spread = of_samples([4, 6] * 50, 10)
    assert spread.high - spread.low < 0.1
    assert of_samples([0] * 20, 10) == of_accuracy(0, 20)
    assert of_samples([10] * 20, 10) == of_accuracy(20, 20)
    assert of_samples([5] * 20, 10) == of_accuracy(10, 20)


def test_none_right_does_not_make_a_figure_certain() -> None:
    core = CoreScore([TaskScore(name, 0, 20, 0.0, "language_modeling", 0) for name in ("jeopardy", "squad")])
    assert core.value == core.interval.low == 0
    assert core.interval.high == pytest.approx(0.16113 / 2**0.5, abs=1e-5)
    chat = ChatScore(
        [ChatResult("gsm8k", "answer", 0.0, (0,) * 20), ChatResult("spelling-bee", "answer", 0.0, (1,) * 20)]
    )
    assert chat.interval == pytest.approx((0.5 - 0.16113 / 2, 0.5 + 0.16113 / 2), abs=1e-5)


def test_chance_is_taken_off_both_ends() -> None:
    assert Interval(0.25, 1.0).centred(0.25) == (0, 1)
    assert Interval(0.1, 0.55).centred(0.25) == pytest.approx((-0.2, 0.4))


@pytest.mark.parametrize("items", [20, 100])
def test_they_hold_the_truth_in_95_of_100_cases(items: int) -> None:
    """Over tasks like CORE's, some of which a small model hardly ever gets right."""
    rng = np.random.default_rng(0)
    truth = np.array(
        [0.01, 0.01, 0.02, 0.005, 0.0, 0.03, 0.15, 0.25, 0.28, 0.3, 0.4, 0.5, 0.52, 0.55, 0.6, 0.62, 0.7, 0.9]
    )
    held = 0
    for right in rng.binomial(items, truth, size=(500, len(truth))):
        low, high = of_mean([(count / items, of_accuracy(int(count), items)) for count in right])
        held += low <= truth.mean() <= high
    assert 0.93 <= held / 500 <= 0.99
