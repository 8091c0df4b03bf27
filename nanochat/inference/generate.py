"""Text out of a model in one call: a prompt, and what follows it."""

from __future__ import annotations

import torch

from nanochat.inference.decoder import Decoder
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
    decoder = Decoder(gpt, build)
    stream = decoder.new_stream(length)
    logits = decoder.read([stream], [prompt]).expand(samples, -1)
    streams = [stream, *(stream.fork() for _ in range(samples - 1))]
    tokens = [choose(logits, samplers)]
    while len(tokens) < steps:
        tokens.append(choose(decoder.read(streams, [[token] for token in tokens[-1]]), samplers))
    return [list(stream_tokens) for stream_tokens in zip(*tokens, strict=True)]
