"""Generation in one function call: continuations of one prompt, as token ids."""

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
        prompt: token ids, at least one; usually starting with ``<|bos|>``.
        max_tokens: the largest number of new tokens; prompt and new tokens together are bounded by the model's context.
        temperature: 0 is greedy decoding, 1 samples from the model's distribution.
        top_k: sample from the k most likely tokens only; None samples from all.
        seed: the same seed gives the same tokens.
        build: whether to compile the C++ decoder if it is not yet compiled on this machine.

    Returns:
        The new tokens, without the prompt.

    Raises:
        ValueError: if the prompt is empty or fills the context.
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
    """Continues a prompt several times in one batch. The prompt is read once, and each step reads the weights once.

    Args:
        gpt: the model.
        prompt: as in :func:`generate`, like the other arguments.
        samples: number of continuations.
        max_tokens: the largest number of new tokens in each.
        temperature: 0 makes all continuations equal.
        top_k: sample from the k most likely tokens only; None samples from all.
        seed: the same seed gives the same continuations; the first one equals that of :func:`generate`.
        build: whether to compile the C++ decoder if it is not yet compiled on this machine.

    Returns:
        The new tokens of each continuation.

    Raises:
        ValueError: as :func:`generate`, and if ``samples`` is less than 1.
    """
    if not prompt:
        raise ValueError("a prompt needs at least one token")
    if len(prompt) >= gpt.context:
        raise ValueError(f"a prompt of {len(prompt)} tokens leaves no room in the context of {gpt.context}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    settings = Sampling(temperature, top_k)
    samplers = [Sampler(settings, seed + n) for n in range(samples)]
    length = min(len(prompt) + max_tokens, gpt.context)
    steps = length - len(prompt)
    if steps <= 0:
        return [[] for _ in range(samples)]
    if is_sharded(gpt):
        logits, step = _prefill_with_model(gpt, prompt, samples, length)
    else:
        logits, step = _prefill_with_decoder(gpt, prompt, samples, length, build)
    tokens = [choose(logits, samplers)]
    while len(tokens) < steps:
        tokens.append(choose(step(tokens[-1]), samplers))
    return [list(continuation) for continuation in zip(*tokens, strict=True)]


StepFunction = Callable[[Sequence[int]], Tensor]  # one token per sample -> logits of the next: (samples, vocab_size)


def _prefill_with_decoder(
    gpt: GPT, prompt: list[int], samples: int, length: int, build: bool
) -> tuple[Tensor, StepFunction]:
    """Reads the prompt. Returns the logits of the first new token, (samples, vocab_size), and the step function."""
    decoder = Decoder(gpt, build)
    stream = decoder.new_stream(length)
    logits = decoder.read([stream], [prompt]).expand(samples, -1)
    streams = [stream, *(stream.fork() for _ in range(samples - 1))]
    return logits, lambda tokens: decoder.read(streams, [[token] for token in tokens])


def _prefill_with_model(gpt: GPT, prompt: list[int], samples: int, length: int) -> tuple[Tensor, StepFunction]:
    """The same with the model's own forward pass, which gathers the weights of a sharded model."""
    cache, device = gpt.new_cache(samples, length), gpt.device

    def forward(ids: Tensor) -> Tensor:
        return gpt(ids.to(device), cache)[:, -1].float().cpu()

    return forward(torch.tensor([prompt] * samples)), lambda tokens: forward(torch.tensor(tokens).unsqueeze(1))
