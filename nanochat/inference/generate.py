"""Sampling: one token after the other, each read once."""

from __future__ import annotations

import torch
from torch import Tensor

from nanochat.model import GPT


@torch.inference_mode()
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
    if not prompt:
        raise ValueError("a prompt needs at least one token")
    if len(prompt) >= gpt.context:
        raise ValueError(f"a prompt of {len(prompt)} tokens leaves no room in a context of {gpt.context}")
    device = gpt.embedding.weight.device
    generator = torch.Generator().manual_seed(seed)
    length = min(len(prompt) + max_tokens, gpt.context)
    cache = gpt.new_cache(batch=1, length=length)
    ids = torch.tensor([prompt], device=device)
    tokens: list[int] = []
    while len(prompt) + len(tokens) < length:
        logits = gpt(ids, cache)[0, -1].float().cpu()
        token = choose(logits, temperature, top_k, generator)
        tokens.append(token)
        ids = torch.tensor([[token]], device=device)
    return tokens


def choose(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    """Draws a token from logits of shape (vocabulary,)."""
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None and top_k < logits.numel():
        least = logits.topk(top_k).values[-1]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))
