"""Text out of a model: one token after the other, each read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nanochat.inference.decoder import Decoder
from nanochat.inference.sampling import Sampler
from nanochat.model import GPT


def generate(
    gpt: GPT, prompt: list[int], max_tokens: int, temperature: float = 0.8, top_k: int | None = 50, seed: int = 0
) -> list[int]:
    """Continues a prompt.

    Args:
        gpt: the model.
        prompt: token ids, at least one; usually begun with ``<|bos|>``.
        max_tokens: how many tokens to add, at most; the model's context bounds prompt and tokens together.
        temperature: 0 takes the likeliest token each time; 1 draws as the model says.
        top_k: draw from the likeliest k tokens only; None draws from all.
        seed: the same seed gives the same tokens.

    Returns:
        The new tokens, without the prompt.

    Raises:
        ValueError: if the prompt is empty or leaves no room in the context.
    """
    return generate_several(gpt, prompt, 1, max_tokens, temperature, top_k, seed)[0]


@torch.inference_mode()
def generate_several(
    gpt: GPT,
    prompt: list[int],
    samples: int,
    max_tokens: int,
    temperature: float = 0.8,
    top_k: int | None = 50,
    seed: int = 0,
) -> list[list[int]]:
    """Continues a prompt several times at once: the prompt is read once, and each step reads the weights once.

    Args:
        gpt: the model.
        prompt: as in :func:`generate`, like the other arguments.
        samples: how many continuations.
        max_tokens: how many tokens to add to each, at most.
        temperature: 0 makes them all alike.
        top_k: draw from the likeliest k tokens only; None draws from all.
        seed: the same seed gives the same continuations.

    Returns:
        The new tokens of each.

    Raises:
        ValueError: as :func:`generate`, and if no samples are asked for.
    """
    if not prompt:
        raise ValueError("a prompt needs at least one token")
    if len(prompt) >= gpt.context:
        raise ValueError(f"a prompt of {len(prompt)} tokens leaves no room in a context of {gpt.context}")
    if samples < 1:
        raise ValueError(f"at least one sample, not {samples}")
    sampler = Sampler(temperature, top_k, seed)
    length = min(len(prompt) + max_tokens, gpt.context)
    steps = length - len(prompt)
    if steps <= 0:
        return [[] for _ in range(samples)]
    begin = _begin_with_decoder if _fits_decoder(gpt) else _begin_with_model
    logits, step = begin(gpt, prompt, samples, length)
    tokens = [sampler(logits)]
    while len(tokens) < steps:
        tokens.append(sampler(step(tokens[-1])))
    return [list(stream) for stream in zip(*tokens, strict=True)]


Step = Callable[
    [Sequence[int]], Tensor
]  # from a token for each stream to the logits of the next: (streams, vocab_size)


def _fits_decoder(gpt: GPT) -> bool:
    """Whether the whole model is on the CPU. (Of a tensor dealt out to several devices, each has a "local" part.)"""
    return all(p.device.type == "cpu" and not hasattr(p, "to_local") for p in gpt.parameters())


def _begin_with_decoder(gpt: GPT, prompt: list[int], samples: int, length: int) -> tuple[Tensor, Step]:
    """The first logits, and what takes a step."""
    decoder = Decoder(gpt, samples)
    state = decoder.new_state(1, length)
    logits = decoder.read(state, [prompt])
    state = state.repeated(samples)
    return logits.expand(samples, -1), lambda tokens: decoder.step(state, tokens)


def _begin_with_model(gpt: GPT, prompt: list[int], samples: int, length: int) -> tuple[Tensor, Step]:
    """The same through the model's own forward pass, wherever it is."""
    cache, device = gpt.new_cache(samples, length), gpt.embedding.weight.device

    def read(ids: Tensor) -> Tensor:
        return gpt(ids.to(device), cache)[:, -1].float().cpu()

    return read(torch.tensor([prompt] * samples)), lambda tokens: read(torch.tensor(tokens).unsqueeze(1))
