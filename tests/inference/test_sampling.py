"""Tokens are sampled with the probabilities that follow from the logits and the settings."""

from __future__ import annotations

import pytest
import torch

from nanochat.inference.sampling import Sampler, Sampling, choose

LOGITS = torch.tensor([1.0, -1.0, 0.5, 3.0, 2.0, -4.0])


def frequencies(settings: Sampling, texts: int = 100, steps: int = 300) -> torch.Tensor:
    samplers = [Sampler(settings, seed) for seed in range(texts)]
    logits = LOGITS.expand(texts, -1)
    tokens = torch.tensor([choose(logits, samplers) for _ in range(steps)])
    return torch.bincount(tokens.flatten(), minlength=6) / tokens.numel()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [None, 3, 5])
def test_frequencies_match_the_softmax(temperature: float, top_k: int | None) -> None:
    kept = LOGITS.clone()
    if top_k is not None:
        kept[kept.argsort()[:-top_k]] = -torch.inf
    expected = (kept / temperature).softmax(0)
    torch.testing.assert_close(frequencies(Sampling(temperature, top_k)), expected, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        # probabilities of the tokens 0 to 5: 0.0843 0.0114 0.0512 0.6233 0.2293 0.0006
        (Sampling(1.0, None, top_p=0.6), [3]),
        (Sampling(1.0, None, top_p=0.63), [3, 4]),
        (Sampling(1.0, None, top_p=0.86), [3, 4, 0]),
        (Sampling(1.0, None, min_p=0.3), [3, 4]),
        (Sampling(1.0, None, min_p=0.1), [3, 4, 0]),
        (Sampling(0.5, None, min_p=0.3), [3]),  # the temperature is applied first
        (Sampling(1.0, 2, top_p=0.99), [3, 4]),
        (Sampling(1.0, 4, top_p=0.86, min_p=0.3), [3, 4]),
    ],
)
def test_top_p_and_min_p_exclude_unlikely_tokens(settings: Sampling, kept: list[int]) -> None:
    logits = torch.full_like(LOGITS, -torch.inf)
    logits[kept] = LOGITS[kept]
    expected = (logits / settings.temperature).softmax(0)
    torch.testing.assert_close(frequencies(settings), expected, rtol=0, atol=0.01)


def test_greedy_chooses_the_most_likely_token() -> None:
    for settings in (Sampling(0.0), Sampling(5.0, top_k=1)):
        assert choose(LOGITS.view(1, -1), [Sampler(settings)]) == [3]


@pytest.mark.parametrize("temperature", [1e-6, 1e-7, 1e-39, 5e-324])
@pytest.mark.parametrize("options", [{}, {"top_k": None}, {"top_p": 0.5}, {"min_p": 0.5}])
def test_tiny_temperatures_are_greedy(temperature: float, options: dict[str, float]) -> None:
    logits = torch.tensor([[0.0, -1.0, 3.0, 2.0], [-15.0, 0.0, 15.0, -3.0]])
    samplers = [Sampler(Sampling(temperature, **options), seed) for seed in range(2)]  # type: ignore[arg-type]
    assert choose(logits, samplers) == [2, 2]


def test_repetition_penalty() -> None:
    samplers = [Sampler(Sampling(0.0, repetition_penalty=2.0)) for _ in range(3)]
    # 3.0 becomes 1.5, below 2.0; a repeated token with logit -1 gets -2, below -1.5
    assert choose(LOGITS.expand(3, -1), samplers, [[3], [], [3, 4, 3]]) == [4, 3, 3]
    negative = torch.tensor([[-1.0, -1.5]])
    assert choose(negative, samplers[:1], [[0]]) == [1]


def test_batched_texts_are_independent() -> None:
    settings = [Sampling(1.0, None), Sampling(1.0, None), Sampling(0.5, 3), Sampling(0.0), Sampling(1.0, None, 0.9)]

    def alone(n: int) -> list[int]:
        sampler = Sampler(settings[n], seed=n)
        return [choose(LOGITS.view(1, -1), [sampler])[0] for _ in range(30)]

    samplers = [Sampler(one, seed) for seed, one in enumerate(settings)]
    together = [choose(LOGITS.expand(5, -1), samplers) for _ in range(30)]
    assert [list(tokens) for tokens in zip(*together, strict=True)] == [alone(n) for n in range(5)]
    assert alone(0) != alone(1)


def test_noise_is_not_reused() -> None:
    sampler = Sampler(Sampling(1.0, None))
    draws = {tuple(choose(torch.zeros(1, 2**13), [sampler])) for _ in range(20)}  # more than one block of noise
    assert len(draws) > 15


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": -0.1}]
)
def test_settings_out_of_range_are_errors(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must be"):
        Sampling(**wrong)  # type: ignore[arg-type]
