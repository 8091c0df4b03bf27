"""Text out of a model in one call: a prompt, and what follows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nanochat.inference.decoder import Decoder, is_sharded
from nanochat.inference.sampling import Sampler, Sampling, choose
from nanochat.model import GPT


def generate(
    gpt: GPT,
    prompt: list[int],
    max_tokens: int,
    temperature: float = 0.8,
    top_k: int | None = 50,
    seed: int = 0,
    build: bool = True,
) -> list[int]:
    """Continues a prompt.

    Args:
        gpt: the model.
        prompt: token ids, at least one; usually begun with ``<|bos|>``.
        max_tokens: how many tokens to add, at most; the model's context bounds prompt and tokens together.
        temperature: 0 takes the likeliest token each time; 1 draws as the model says.
        top_k: draw from the likeliest k tokens only; None draws from all.
        seed: the same seed gives the same tokens.
        build: whether to compile the decoder if that has not been done on this machine.

    Returns:
        The new tokens, without the prompt.

    Raises:
        ValueError: if the prompt is empty or leaves no room in the context.
    """
    return generate_several(gpt, prompt, 1, max_tokens, temperature, top_k, seed, build)[0]


@torch.inference_mode()
def generate_several(
    gpt: GPT,
    prompt: list[int],
    samples: int,
    max_tokens: int,
    temperature: float = 0.8,
    top_k: int | None = 50,
    seed: int = 0,
    build: bool = True,
) -> list[list[int]]:
    """Continues a prompt several times at once: the prompt is read once, and each step reads the weights once.

    Args:
        gpt: the model.
        prompt: as in :func:`generate`, like the other arguments.
        samples: how many continuations.
        max_tokens: how many tokens to add to each, at most.
        temperature: 0 makes them all alike.
        top_k: draw from the likeliest k tokens only; None draws from all.
        seed: the same seed gives the same continuations; the first is that of :func:`generate`.
        build: whether to compile the decoder if that has not been done on this machine.

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
    settings = Sampling(temperature, top_k)
    samplers = [Sampler(settings, seed + n) for n in range(samples)]
    length = min(len(prompt) + max_tokens, gpt.context)
    steps = length - len(prompt)
    if steps <= 0:
        return [[] for _ in range(samples)]
    begin = _begin_with_model if is_sharded(gpt) else _begin_with_decoder
    logits, step = begin(gpt, prompt, samples, length, build)
    tokens = [choose(logits, samplers)]
    while len(tokens) < steps:
        tokens.append(choose(step(tokens[-1]), samplers))
    return [list(stream_tokens) for stream_tokens in zip(*tokens, strict=True)]


Step = Callable[[Sequence[int]], Tensor]  # from a token for each text to the logits of the next: (texts, vocab_size)


def _begin_with_decoder(gpt: GPT, prompt: list[int], samples: int, length: int, build: bool) -> tuple[Tensor, Step]:
    """The first logits, and what takes a step."""
    decoder = Decoder(gpt, build)
    stream = decoder.new_stream(length)
    logits = decoder.read([stream], [prompt]).expand(samples, -1)
    streams = [stream, *(stream.fork() for _ in range(samples - 1))]
    return logits, lambda tokens: decoder.read(streams, [[token] for token in tokens])


def _begin_with_model(gpt: GPT, prompt: list[int], samples: int, length: int, _: bool) -> tuple[Tensor, Step]:
    """The same through the model's own forward pass: only that gathers the weights of a model that is dealt out."""
    cache, device = gpt.new_cache(samples, length), gpt.device

    def read(ids: Tensor) -> Tensor:
        return gpt(ids.to(device), cache)[:, -1].float().cpu()

    return read(torch.tensor([prompt] * samples)), lambda tokens: read(torch.tensor(tokens).unsqueeze(1))
