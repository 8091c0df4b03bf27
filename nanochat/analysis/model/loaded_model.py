"""A run's model, its held-out text and its losses, loaded once for all figures of the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nanochat.analysis.figure import ModelOptions
from nanochat.analysis.model.held_out_losses import (
    MAX_PASSAGE,
    HeldOutLosses,
    HeldOutSubset,
    held_out_losses,
    median_row,
)
from nanochat.analysis.model.held_out_text import HeldOutText, held_out_text
from nanochat.model import GPT, IGNORE
from nanochat.runs import Run
from nanochat.serving.model import Model, load
from nanochat.training.checkpoint.loading import load_checkpoint

# Budget of floating-point operations for held-out tokens. On a CPU: 65,536 tokens of tiny, 3 s on two cores. Larger
# models read at least MIN_TOKENS, or sampling noise would hide everything.
FLOPS = {"cpu": 4.5e11, "cuda": 4.5e13, "mps": 4.5e12}
MAX_TOKENS, MIN_TOKENS = 65_536, 4_096
SENTENCE = re.compile(r"(?<![^\s])[A-Z][a-z]*(?: [^\s.!?]+){5,}[.!?]")


@dataclass(frozen=True)
class Passage:
    """A short text with the loss of each token.

    Attributes:
        ids: (time + 1,); the first one is not predicted.
        scored: (time,), whether token i + 1 is a target; False for the user's part of a conversation.
        nats: (time,), the loss of token i + 1.
        description: what the text is, for captions.
    """

    ids: NDArray[np.int64]
    scored: NDArray[np.bool_]
    nats: NDArray[np.float64]
    description: str


class LoadedModel:
    """A run's model with its held-out text. Each attribute is computed on first use, and cached.

    Args:
        run: a run with a checkpoint.
        options: device, and the passage that the user has chosen.
    """

    def __init__(self, run: Run, options: ModelOptions) -> None:
        self.run, self.options = run, options

    @cached_property
    def model(self) -> Model:
        """The model of the run's last checkpoint.

        Raises:
            ValueError: if there is no checkpoint, or it is damaged.
        """
        path = self.run.checkpoint
        if path is None:
            raise ValueError("the run has no checkpoint")
        return load(path, device=self.options.device)

    @property
    def gpt(self) -> GPT:
        return self.model.gpt

    @cached_property
    def checkpoint(self) -> dict[str, Any]:
        """The content of the checkpoint; its tensors are read from the file when they are used."""
        return load_checkpoint(self.model.path)

    @property
    def row_length(self) -> int | None:
        """Tokens per training row, if known."""
        settings = self.checkpoint.get("datamodule_hyper_parameters") or {}
        length = settings.get("row_length") or settings.get("context")
        return min(length, self.gpt.context) if length else None

    @cached_property
    def text(self) -> HeldOutText:
        return held_out_text(self.checkpoint, self.model.tokenizer, self.gpt.context)

    def token_budget(self, fraction: float = 1.0) -> int:
        """How many held-out tokens to read, as a fraction of the compute budget."""
        flops_per_token = self.gpt.flops_per_token() / 3  # of the forward pass
        budget = FLOPS.get(torch.device(self.options.device).type, FLOPS["cpu"]) / flops_per_token
        return int(min(max(budget, MIN_TOKENS), MAX_TOKENS) * fraction)

    @cached_property
    def losses(self) -> HeldOutLosses:
        """The losses of the first held-out rows, which are an unbiased sample of all."""
        return self.losses_of(range(self.text.rows.first(self.token_budget())))

    def losses_of(self, indices: Sequence[int]) -> HeldOutLosses:
        """The losses of the held-out rows with these indices."""
        return held_out_losses(self.gpt, HeldOutSubset(self.text.rows, indices), self.model.tokenizer.bos)

    @property
    def losses_description(self) -> str:
        """The extent of :attr:`losses`: "65,540 tokens in 301 rows of held-out documents of embedded"."""
        return f"{len(self.losses.nats):,} tokens in {len(self.losses.first_ids):,} rows of {self.text.description}"

    def with_note(self, caption: str) -> str:
        """The caption, with a note if the text is not the run's own held-out text."""
        return f"{caption} {self.text.note}".rstrip()

    @cached_property
    def passage(self) -> Passage:
        """The user's text, or a held-out document with a typical loss.

        Raises:
            ValueError: if the user's text has fewer than two tokens.
        """
        tokenizer = self.model.tokenizer
        if self.options.passage is not None:
            ids = [tokenizer.bos, *tokenizer.encode(self.options.passage)][: min(MAX_PASSAGE, self.gpt.context) + 1]
            if len(ids) < 3:
                raise ValueError("--passage is too short: give at least two tokens")
            scored = torch.ones(len(ids) - 1, dtype=torch.bool)
            return _passage(self.gpt, torch.tensor(ids), scored, "the text of --passage")
        inputs, targets = self.text.rows.example(median_row(self.losses, tokenizer.bos))
        # The last target is not among the inputs; it is appended only if it is scored.
        last = targets[-1:] if targets[-1] != IGNORE else inputs[:0]
        kind = "conversation" if "conversation" in self.text.description else "document"
        description = f"a held-out {kind} whose mean loss is the median of those of its length"
        return _passage(
            self.gpt, torch.cat((inputs, last))[: MAX_PASSAGE + 1], (targets != IGNORE)[:MAX_PASSAGE], description
        )


def sentence(loaded: LoadedModel, max_tokens: int) -> tuple[torch.Tensor, str]:
    """A sentence of the passage as a document of its own, so that the figure shows the whole context.

    Args:
        loaded: the model with its passage.
        max_tokens: tokens at most.

    Returns:
        Ids, (time,), starting with ``<|bos|>``, and their description. If the passage is a conversation or has no
        complete sentence: its first tokens.
    """
    passage, tokenizer = loaded.passage, loaded.model.tokenizer
    found = SENTENCE.search(tokenizer.decode(passage.ids.tolist())) if passage.scored.all() else None
    if found is None:
        ids = passage.ids[:max_tokens].tolist()
        return torch.tensor(ids), f"The text: the first {len(ids)} tokens of {passage.description}."
    ids = [tokenizer.bos, *tokenizer.encode(found[0])][:max_tokens]
    description = f"The text: the first {len(ids)} tokens of a sentence of {passage.description}, read without context."
    return torch.tensor(ids), description


@torch.inference_mode()
def _passage(gpt: GPT, ids: torch.Tensor, scored: torch.Tensor, description: str) -> Passage:
    scored = scored[: len(ids) - 1]
    device = gpt.device
    nats = gpt.losses(ids[None, :-1].to(device), ids[None, 1:].to(device))[0].cpu()
    return Passage(ids.numpy(), scored.numpy(), nats.numpy().astype(np.float64), description)
