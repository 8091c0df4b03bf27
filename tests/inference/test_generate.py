"""Continuations of one prompt with ``generate`` and ``generate_several``."""

import pytest
import torch

from nanochat.inference import generate as generate_module
from nanochat.inference.generate import generate, generate_several
from nanochat.model import GPT, GPTConfig


def random_gpt() -> GPT:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig.from_options(depth=2, vocab_size=40, context=24, width=32, heads=2))
    torch.nn.init.normal_(gpt.lm_head.weight, std=1.0)
    return gpt


def test_greedy_decoding_matches_the_forward_pass() -> None:
    gpt = random_gpt()
    tokens = generate(gpt, [1, 2, 3], max_tokens=10, temperature=0)
    text = [1, 2, 3]
    for token in tokens:
        assert token == int(gpt(torch.tensor([text]))[0, -1].argmax())
        text.append(token)


def test_the_same_seed_gives_the_same_tokens() -> None:
    gpt = random_gpt()
    runs = [tuple(generate(gpt, [1], 12, temperature=1.0, seed=seed)) for seed in (0, 0, 1, 2)]
    assert runs[0] == runs[1]
    assert len(set(runs)) > 1


def test_top_k_one_is_greedy() -> None:
    gpt = random_gpt()
    assert generate(gpt, [5], 8, temperature=2.0, top_k=1) == generate(gpt, [5], 8, temperature=0)


def test_the_context_bounds_the_text() -> None:
    assert len(generate(random_gpt(), [1] * 20, max_tokens=100)) == 4
    with pytest.raises(ValueError, match="no room"):
        generate(random_gpt(), [1] * 24, max_tokens=1)
    with pytest.raises(ValueError, match="at least one token"):
        generate(random_gpt(), [], max_tokens=1)


def test_several_samples() -> None:
    gpt = random_gpt()
    samples = generate_several(gpt, [1, 2, 3], 4, max_tokens=10, temperature=1.0)
    assert len({tuple(tokens) for tokens in samples}) == 4
    greedy = generate_several(gpt, [1, 2, 3], 4, max_tokens=10, temperature=0)
    assert greedy == [generate(gpt, [1, 2, 3], max_tokens=10, temperature=0)] * 4
    assert generate_several(gpt, [1], 2, max_tokens=0) == [[], []]
    with pytest.raises(ValueError, match="samples must be at least 1"):
        generate_several(gpt, [1], 0, max_tokens=1)


def test_first_sample_equals_generate() -> None:
    gpt = random_gpt()
    assert generate_several(gpt, [1, 2], 3, 12, 1.0, None, seed=7)[0] == generate(gpt, [1, 2], 12, 1.0, None, seed=7)


@pytest.mark.parametrize(("temperature", "top_k"), [(0.0, None), (1.0, None), (0.7, 5)])
def test_model_and_decoder_generate_the_same(
    temperature: float, top_k: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model with sharded weights generates with its own forward pass."""
    gpt = random_gpt()
    by_decoder = generate_several(gpt, [1, 2, 3], 3, 12, temperature, top_k, seed=5)
    monkeypatch.setattr(generate_module, "is_sharded", lambda gpt: True)
    assert generate_several(gpt, [1, 2, 3], 3, 12, temperature, top_k, seed=5) == by_decoder
