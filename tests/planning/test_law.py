"""The law of scaling: it finds what made the points, knows how sure it is, and counts repeated text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nanochat.planning.law import Scale, fit_law, worth

SIZES = [
    Scale(n * 1e6, t * 1e6, v, s)
    for n, t, v, s in [
        (0.4, 1, 512, 512),
        (0.4, 4, 512, 512),
        (1.3, 1, 512, 512),
        (1.3, 3, 2048, 512),
        (3.1, 0.5, 512, 512),
        (3.1, 1, 2048, 512),
        (3.1, 3, 1024, 512),
        (10, 0.5, 512, 512),
        (10, 2, 2048, 512),
        (3.1, 2, 512, 4096),
        (1.3, 2, 512, 2048),
        (0.4, 2, 4096, 512),
    ]
]


def truth(size: Scale) -> float:
    text = size.text_bytes / 1e6 * (size.vocab_size / 512) ** 0.2 / (1 + size.tokens_per_step / 8192)
    return float(0.7 + 0.15 * (size.parameters / 1e6) ** -0.34 + 0.9 * text**-0.28)


def test_a_law_is_found_again() -> None:
    law = fit_law(SIZES, [truth(size) for size in SIZES])
    assert law.error < 0.005
    for size in (Scale(6e6, 6e6, 1024, 512), Scale(3e6, 8e6, 2048, 1024)):  # that it has not seen
        assert law(size) == pytest.approx(truth(size), rel=0.01)
        assert not law.beyond(size)
    assert law.beyond(Scale(6e6, 60e6, 1024, 512))
    assert law.beyond(Scale(60e6, 6e6, 1024, 512))


def test_noisy_points_make_wide_intervals_that_hold_the_truth() -> None:
    inside, widths = 0, []
    for seed in range(6):
        noise = np.random.default_rng(seed).normal(0, 0.01, len(SIZES))
        scores = [truth(size) * (1 + e) for size, e in zip(SIZES, noise, strict=True)]
        law = fit_law(SIZES, scores)
        for size in (Scale(3.1e6, 2.5e6, 2048, 512), Scale(1.3e6, 5e6, 512, 512)):
            low, high = law.forecast(size)[1:]
            inside += low <= truth(size) <= high
            widths.append((high - low) / truth(size))
        near, far = law.forecast(SIZES[6]), law.forecast(Scale(3e7, 6e7, 2048, 512))
        assert (far.high - far.low) / far.value > (near.high - near.low) / near.value  # the farther, the less sure
    assert inside >= 9  # of 12
    assert 0.01 < float(np.mean(widths)) < 0.2


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 measured runs, and there are 3"):
        fit_law(SIZES[:3], [1.0, 2.0, 3.0])


def test_repeated_text_is_worth_less() -> None:
    assert worth(5, 10) == 5
    assert worth(10, 10) == 10
    # U + U R (1 - e^(-r / R)) with U = 10, r = 3 repetitions, R = 15.4
    assert worth(40, 10) == pytest.approx(10 + 154 * (1 - math.exp(-3 / 15.4)))
    assert worth(1e9, 10) == pytest.approx(164)
