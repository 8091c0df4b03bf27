"""The scaling law: the fit, its intervals, and the effect of repeated text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nanochat.planning.law import Scale, effective_bytes, fit_law

SCALES = [
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


def true_score(scale: Scale) -> float:
    text = scale.text_bytes / 1e6 * (scale.vocab_size / 512) ** 0.2 / (1 + scale.tokens_per_step / 8192)
    return float(0.7 + 0.15 * (scale.parameters / 1e6) ** -0.34 + 0.9 * text**-0.28)


def test_fit_recovers_the_law() -> None:
    law = fit_law(SCALES, [true_score(scale) for scale in SCALES])
    assert law.error < 0.005
    for scale in (Scale(6e6, 6e6, 1024, 512), Scale(3e6, 8e6, 2048, 1024)):  # not in the fit
        assert law(scale) == pytest.approx(true_score(scale), rel=0.01)
        assert not law.extrapolates(scale)
    assert law.extrapolates(Scale(6e6, 60e6, 1024, 512))
    assert law.extrapolates(Scale(60e6, 6e6, 1024, 512))


def test_intervals_contain_the_true_score() -> None:
    inside, widths = 0, []
    for seed in range(6):
        noise = np.random.default_rng(seed).normal(0, 0.01, len(SCALES))
        scores = [true_score(scale) * (1 + e) for scale, e in zip(SCALES, noise, strict=True)]
        law = fit_law(SCALES, scores)
        for scale in (Scale(3.1e6, 2.5e6, 2048, 512), Scale(1.3e6, 5e6, 512, 512)):
            low, high = law.forecast(scale)[1:]
            inside += low <= true_score(scale) <= high
            widths.append((high - low) / true_score(scale))
        near, far = law.forecast(SCALES[6]), law.forecast(Scale(3e7, 6e7, 2048, 512))
        assert (far.high - far.low) / far.value > (near.high - near.low) / near.value  # extrapolation is less certain
    assert inside >= 9  # of 12
    assert 0.01 < float(np.mean(widths)) < 0.2


def test_too_few_runs() -> None:
    with pytest.raises(ValueError, match="at least 8 measured runs, and there are 3"):
        fit_law(SCALES[:3], [1.0, 2.0, 3.0])


def test_effective_bytes_of_repeated_text() -> None:
    assert effective_bytes(5, 10) == 5
    assert effective_bytes(10, 10) == 10
    # U + U R (1 - e^(-r / R)) with U = 10, r = 3 repetitions, R = 15.4
    assert effective_bytes(40, 10) == pytest.approx(10 + 154 * (1 - math.exp(-3 / 15.4)))
    assert effective_bytes(1e9, 10) == pytest.approx(164)
