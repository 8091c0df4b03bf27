"""Choosing a token from logits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

COLDEST = 1e-6  # logits are below 16, where float32 knows no smaller steps; and one over less could be no number
AHEAD = 2**13  # random numbers that are drawn at once, for as many steps as they last


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: 0 takes the likeliest token each time; 1 draws as the model says; above, more evenly.
        top_k: draw from the likeliest k tokens only; None draws from all.
        top_p: draw from the likeliest tokens that together have this probability (nucleus sampling, arXiv 1904.09751).
        min_p: leave out tokens less likely than this share of the likeliest one (arXiv 2407.01082).
        repetition_penalty: above 1 makes tokens less likely that are in the text already (arXiv 1909.05858).

    Raises:
        ValueError: if a number is out of range.
    """

    temperature: float = 0.8
    top_k: int | None = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name, good, what in (
            ("temperature", 0 <= self.temperature < math.inf, "0 or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0"),
        ):
            if not good:
                raise ValueError(f"{name} must be {what}, not {getattr(self, name)}")

    @property
    def greedy(self) -> bool:
        """Whether there is nothing to draw."""
        return self.temperature < COLDEST or self.top_k == 1


class Sampler:
    """Draws the tokens of one text, step by step.

    To draw from softmax(logits) is to take the largest of logits + g, where the g are independent numbers from the
    Gumbel distribution (the Gumbel-max trick; see Maddison et al., arXiv 1411.0030). So no softmax is needed, and
    the random numbers, which no token changes, are drawn ahead.

    Args:
        settings: how to choose.
        seed: the same seed draws the same tokens from the same logits.
    """

    def __init__(self, settings: Sampling, seed: int = 0) -> None:
        self.settings = settings
        self._generator = torch.Generator().manual_seed(seed)
        self._noise: list[Tensor] = []

    def noise(self, size: int) -> Tensor:
        """The next Gumbel numbers: (size,), the same size each time."""
        if not self._noise:
            exponential = torch.empty(max(1, AHEAD // size), size).exponential_(generator=self._generator)
            self._noise = list(exponential.log_().neg_())  # -log of an exponential variable is a Gumbel variable
        return self._noise.pop()


@torch.inference_mode()
def choose(logits: Tensor, samplers: Sequence[Sampler], texts: Sequence[Iterable[int]] | None = None) -> list[int]:
    """The next token of each of several texts; those that follow each other with the same settings at once.

    Args:
        logits: (texts, vocab_size), float32, on the CPU.
        samplers: one for each text.
        texts: the tokens so far; needed by a repetition penalty.

    Returns:
        A token for each text. It depends on its own logits and sampler alone.
    """
    tokens: list[int] = []
    for settings, group in groupby(samplers, key=lambda sampler: sampler.settings):
        mine = list(group)
        part = slice(len(tokens), len(tokens) + len(mine))
        some = logits[part]
        if settings.repetition_penalty != 1:
            assert texts is not None
            some = _penalized(some, texts[part], settings.repetition_penalty)
        tokens += some.argmax(1).tolist() if settings.greedy else _draw(some, mine, settings)
    return tokens


def _draw(logits: Tensor, samplers: Sequence[Sampler], settings: Sampling) -> list[int]:
    k, ids = settings.top_k or logits.size(1), None
    bounded = settings.top_p < 1 or settings.min_p > 0
    if k < logits.size(1) or bounded:
        logits, ids = logits.topk(min(k, logits.size(1)), sorted=bounded)
    if bounded:  # the likeliest come first
        scaled = logits / settings.temperature
        shares = torch.softmax(scaled, 1)
        left_out = shares.cumsum(1) - shares >= settings.top_p  # the first is always in
        if settings.min_p > 0:
            left_out |= shares < settings.min_p * shares[:, :1]
        logits = logits.masked_fill(left_out, -torch.inf)
    noise = torch.stack([sampler.noise(logits.size(1)) for sampler in samplers])
    chosen = torch.add(noise, logits, alpha=1 / settings.temperature).argmax(1, keepdim=True)
    found: list[int] = (chosen if ids is None else ids.gather(1, chosen)).squeeze(1).tolist()
    return found


def _penalized(logits: Tensor, texts: Sequence[Iterable[int]], penalty: float) -> Tensor:
    """Positive logits of tokens in the text divided by the penalty, negative ones multiplied with it."""
    logits = logits.clone()
    for row, text in zip(logits, texts, strict=True):
        seen = torch.tensor(sorted(set(text)), dtype=torch.int64)
        some = row[seen]
        row[seen] = torch.where(some > 0, some / penalty, some * penalty)
    return logits
