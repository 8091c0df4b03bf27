"""Sampling the next token from logits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

# Lower temperatures count as 0. Capped logits are below 16, where neighbouring float32 numbers differ by 1e-6, so that
# logits / temperature is as good as greedy; and 1 / temperature might overflow.
MIN_TEMPERATURE = 1e-6
NOISE_BLOCK = 2**13  # random numbers drawn at once: enough for several steps


@dataclass(frozen=True)
class Sampling:
    """Sampling settings.

    Attributes:
        temperature: the logits are divided by it; 0 is greedy decoding, 1 samples from the model's distribution.
        top_k: sample from the k most likely tokens only; None samples from all.
        top_p: sample from the smallest set of most likely tokens whose probabilities add up to at least this (nucleus
            sampling, arXiv 1904.09751).
        min_p: exclude tokens with less than this fraction of the highest probability (arXiv 2407.01082).
        repetition_penalty: values above 1 make tokens that are already in the text less likely (arXiv 1909.05858).

    Raises:
        ValueError: if a value is out of range.
    """

    temperature: float = 0.8
    top_k: int | None = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name, valid, allowed in (
            ("temperature", 0 <= self.temperature < math.inf, "0 or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "above 0"),
        ):
            if not valid:
                raise ValueError(f"{name} must be {allowed}, not {getattr(self, name)}")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always chosen."""
        return self.temperature < MIN_TEMPERATURE or self.top_k == 1


class Sampler:
    """The sampling settings and the random numbers of one text.

    Sampling from softmax(logits) is the same as taking the argmax of logits + g, where the g are independent numbers
    from the Gumbel distribution (the Gumbel-max trick; see Maddison et al., arXiv 1411.0030). This needs no softmax.
    The noise does not depend on the tokens, so it is drawn for several steps at once.

    Args:
        settings: the sampling settings.
        seed: the same seed gives the same tokens for the same logits.
    """

    def __init__(self, settings: Sampling, seed: int = 0) -> None:
        self.settings = settings
        self._generator = torch.Generator().manual_seed(seed)
        self._noise: list[Tensor] = []

    def noise(self, size: int) -> Tensor:
        """Gumbel noise of shape (size,) for the next step; ``size`` must be the same in every step."""
        if not self._noise:
            exponential = torch.empty(max(1, NOISE_BLOCK // size), size).exponential_(generator=self._generator)
            self._noise = list(exponential.log_().neg_())  # -log of an exponential variable is a Gumbel variable
        return self._noise.pop()


@torch.inference_mode()
def choose(logits: Tensor, samplers: Sequence[Sampler], texts: Sequence[Iterable[int]] | None = None) -> list[int]:
    """The next token of each text. Consecutive texts with equal settings are sampled together.

    Args:
        logits: (texts, vocab_size), float32, on the CPU.
        samplers: one for each text.
        texts: the tokens so far; required by a repetition penalty.

    Returns:
        A token for each text. It depends only on that text's own logits and sampler.
    """
    tokens: list[int] = []
    for settings, group in groupby(samplers, key=lambda sampler: sampler.settings):
        group_samplers = list(group)
        rows = slice(len(tokens), len(tokens) + len(group_samplers))
        group_logits = logits[rows]
        if settings.repetition_penalty != 1:
            assert texts is not None
            group_logits = _penalize(group_logits, texts[rows], settings.repetition_penalty)
        tokens += group_logits.argmax(1).tolist() if settings.greedy else _draw(group_logits, group_samplers, settings)
    return tokens


def _draw(logits: Tensor, samplers: Sequence[Sampler], settings: Sampling) -> list[int]:
    k, ids = settings.top_k or logits.size(1), None
    has_threshold = settings.top_p < 1 or settings.min_p > 0
    if k < logits.size(1) or has_threshold:
        logits, ids = logits.topk(min(k, logits.size(1)), sorted=has_threshold)
    if has_threshold:  # the logits are sorted in descending order
        probabilities = torch.softmax(logits / settings.temperature, 1)
        excluded = probabilities.cumsum(1) - probabilities >= settings.top_p  # never the first token
        if settings.min_p > 0:
            excluded |= probabilities < settings.min_p * probabilities[:, :1]
        logits = logits.masked_fill(excluded, -torch.inf)
    noise = torch.stack([sampler.noise(logits.size(1)) for sampler in samplers])
    chosen = torch.add(noise, logits, alpha=1 / settings.temperature).argmax(1, keepdim=True)
    tokens: list[int] = (chosen if ids is None else ids.gather(1, chosen)).squeeze(1).tolist()
    return tokens


def _penalize(logits: Tensor, texts: Sequence[Iterable[int]], penalty: float) -> Tensor:
    """Logits of tokens in the text, divided by the penalty if positive and multiplied by it if negative."""
    logits = logits.clone()
    for row, text in zip(logits, texts, strict=True):
        seen = torch.tensor(sorted(set(text)), dtype=torch.int64)
        values = row[seen]
        row[seen] = torch.where(values > 0, values / penalty, values * penalty)
    return logits
