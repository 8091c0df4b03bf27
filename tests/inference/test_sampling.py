"""Tokens come as often as the model says."""

from __future__ import annotations

import pytest
import torch

from nanochat.inference.sampling import Sampler

LOGITS = torch.tensor([[1.0, -1.0, 0.5, 3.0, 2.0, -4.0]])


def frequencies(sampler: Sampler, streams: int = 1000, steps: int = 50) -> torch.Tensor:
    logits = LOGITS.expand(streams, -1)
    tokens = torch.tensor([sampler(logits) for _ in range(steps)])
    return torch.bincount(tokens.flatten(), minlength=6) / tokens.numel()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [None, 3, 5])
def test_tokens_come_as_often_as_the_softmax_says(temperature: float, top_k: int | None) -> None:
    kept = LOGITS[0].clone()
    if top_k is not None:
        kept[kept.argsort()[:-top_k]] = -torch.inf
    expected = (kept / temperature).softmax(0)
    torch.testing.assert_close(frequencies(Sampler(temperature, top_k)), expected, rtol=0, atol=0.01)


def test_greedy_takes_the_likeliest() -> None:
    for sampler in (Sampler(0.0), Sampler(5.0, top_k=1)):
        assert sampler(LOGITS) == [3]


def test_the_seed_decides() -> None:
    draws = [[Sampler(1.0, seed=seed)(LOGITS.expand(20, -1)) for _ in range(2)] for seed in (0, 1)]
    assert draws[0][0] == draws[0][1]
    assert draws[0][0] != draws[1][0]


def test_random_numbers_are_not_used_twice() -> None:
    sampler = Sampler(1.0)
    draws = {tuple(sampler(torch.zeros(1, 2**13))) for _ in range(20)}  # more than are drawn at once
    assert len(draws) > 15


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Sampler(-1.0)
    with pytest.raises(ValueError, match="top_k"):
        Sampler(1.0, top_k=0)
