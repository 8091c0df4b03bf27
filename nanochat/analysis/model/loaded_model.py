"""What the figures of a model look at: the model, held-out text, and the loss of each of its tokens."""

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
from nanochat.analysis.model.held_out_text import HeldOutText, held_out_text
from nanochat.data.tokens.batches import HeldOutBatches
from nanochat.data.tokens.held_out_rows import HeldOut
from nanochat.model import GPT, IGNORE
from nanochat.runs import Run
from nanochat.serving.model import Model, load
from nanochat.training.checkpoint_files import load_checkpoint

# Held-out tokens are read until the model has done so many floating-point operations: 65,536 tokens of tiny, which
# take 3 s on two cores. At least so many, whatever the model, or there would be nothing to see in the noise.
FLOPS = {"cpu": 4.5e11, "cuda": 4.5e13, "mps": 4.5e12}
MOST_TOKENS, LEAST_TOKENS = 65_536, 4_096
# A passage of this many tokens is looked at closely.
SHORT, LONG = 120, 320
SENTENCE = re.compile(r"(?<![^\s])[A-Z][a-z]*(?: [^\s.!?]+){5,}[.!?]")


@dataclass(frozen=True)
class HeldOutLosses:
    """The loss of each held-out token, all of them in one row of numbers.

    Attributes:
        row: (tokens,), which row of the held-out text a token is in.
        place: (tokens,), how many tokens of its row the model had read when it was asked for this one: at least 1.
        token: (tokens,), its id.
        nats: (tokens,), the loss: minus the logarithm of the probability that the model gave it.
        begins: (rows,), the first id of each row.
    """

    row: NDArray[np.int64]
    position: NDArray[np.int64]
    token: NDArray[np.int64]
    nats: NDArray[np.float64]
    first_ids: NDArray[np.int64]


@dataclass(frozen=True)
class Passage:
    """A row of text to look at closely.

    Attributes:
        ids: (time + 1,), the first of which is not asked for.
        asked: (time,), whether the loss of token i + 1 counts; what a user says in a conversation does not.
        nats: (time,), the loss of each of them.
        words: what it is, for the sentence below a figure.
    """

    ids: NDArray[np.int64]
    scored: NDArray[np.bool_]
    nats: NDArray[np.float64]
    description: str


class LoadedModel:
    """A run's model, and the text that it is looked at with. Each part is read when it is first asked for, and kept.

    Args:
        run: one with a checkpoint.
        options: what the user has chosen.
    """

    def __init__(self, run: Run, options: ModelOptions) -> None:
        self.run, self.options = run, options

    @cached_property
    def model(self) -> Model:
        """The last one of the run.

        Raises:
            ValueError: if there is none, or it is damaged.
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
        """All of the model's file; its tensors stay there until they are used."""
        return load_checkpoint(self.model.path)

    @property
    def row_length(self) -> int | None:
        """Tokens in a row that the model was trained with, if that is known."""
        settings = self.checkpoint.get("datamodule_hyper_parameters") or {}
        length = settings.get("row_length") or settings.get("context")
        return min(length, self.gpt.context) if length else None

    @cached_property
    def text(self) -> HeldOutText:
        return held_out_text(self.checkpoint, self.model.tokenizer, self.gpt.context)

    def tokens(self, share: float = 1.0) -> int:
        """How many held-out tokens may be read, where each costs ``1 / share`` forward passes."""
        per_token = self.gpt.flops_per_token() / 3  # forward alone
        budget = FLOPS.get(torch.device(self.options.device).type, FLOPS["cpu"]) / per_token
        return int(min(max(budget, LEAST_TOKENS), MOST_TOKENS) * share)

    @cached_property
    def losses(self) -> HeldOutLosses:
        """Of the first held-out rows, a fair sample of all."""
        return self.losses_of_rows(range(self.text.rows.first(self.tokens())))

    def losses_of_rows(self, rows: Sequence[int]) -> HeldOutLosses:
        """The losses of held-out rows."""
        return held_out_losses(self.gpt, HeldOutSubset(self.text.rows, rows), self.model.tokenizer.bos)

    @property
    def losses_description(self) -> str:
        """What :attr:`losses` are of: "65,540 tokens in 301 held-out documents of embedded"."""
        return f"{len(self.losses.nats):,} tokens in {len(self.losses.first_ids):,} rows of {self.text.description}"

    def with_note(self, caption: str) -> str:
        """A figure's reading, with what must be said of the text where it is not the run's own."""
        return f"{caption} {self.text.note}".rstrip()

    @cached_property
    def passage(self) -> Passage:
        """The user's, or the held-out document that the model finds neither easy nor hard."""
        tokenizer = self.model.tokenizer
        if self.options.passage is not None:
            ids = [tokenizer.bos, *tokenizer.encode(self.options.passage)][: min(LONG, self.gpt.context) + 1]
            if len(ids) < 3:
                raise ValueError("the text to look at is too short")
            return _scored_passage(
                self.gpt, torch.tensor(ids), torch.ones(len(ids) - 1, dtype=torch.bool), "the text given"
            )
        inputs, targets = self.text.rows.example(typical_row(self.losses, tokenizer.bos))
        whole = torch.cat((inputs, self._next(inputs, targets)))[: LONG + 1]
        kind = "conversation" if "conversation" in self.text.description else "document"
        description = f"a held-out {kind} whose mean loss is the median of those of its length"
        return _scored_passage(self.gpt, whole, (targets != IGNORE)[:LONG], description)

    def _next(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The last token of a row, which is nowhere among its inputs; nothing where it is not asked for."""
        return targets[-1:] if targets[-1] != IGNORE else inputs[:0]


class HeldOutSubset(HeldOut):
    """Some of the held-out rows, as rows of their own."""

    def __init__(self, rows: HeldOut, chosen: Sequence[int]) -> None:
        self.rows, self.chosen, self.length = rows, chosen, rows.length
        self.sizes = rows.sizes[np.array(chosen, np.int64)]

    def example(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.rows.example(self.chosen[index])


@torch.inference_mode()
def held_out_losses(gpt: GPT, rows: HeldOut, bos: int) -> HeldOutLosses:
    """Reads held-out rows, all of them.

    Args:
        gpt: the model.
        rows: of held-out text.
        bos: the id of ``<|bos|>``.
    """
    batches = HeldOutBatches(rows, len(rows), bos)
    parts: list[tuple[NDArray[Any], ...]] = []
    first_ids = np.zeros(len(rows), np.int64)
    for numbers, (ids, targets) in zip(batches.batches, batches, strict=True):
        device = gpt.device
        nats = gpt.losses(ids.to(device), targets.to(device)).cpu()
        first_ids[numbers] = ids[: len(numbers), 0].numpy()
        row, position = (targets != IGNORE).nonzero(as_tuple=True)
        parts.append(
            (np.array(numbers)[row], position.numpy() + 1, targets[row, position].numpy(), nats[row, position].numpy())
        )
    rows_, positions, tokens, losses = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((positions, rows_))
    return HeldOutLosses(rows_[order], positions[order], tokens[order], losses[order].astype(np.float64), first_ids)


def typical_row(losses: HeldOutLosses, bos: int) -> int:
    """The row that begins a document, is neither short nor long, and whose mean loss is the median of all such rows."""
    count = np.bincount(losses.row, minlength=len(losses.first_ids))
    last = np.zeros(len(losses.first_ids), np.int64)
    np.maximum.at(last, losses.row, losses.position)
    mean = np.bincount(losses.row, losses.nats, len(losses.first_ids)) / np.maximum(count, 1)
    whole = (losses.first_ids == bos) & (count > 0)
    fitting = whole & (last >= SHORT) & (last <= LONG)
    if not fitting.any():  # take those that are nearest to it
        distance = np.where(whole if whole.any() else count > 0, np.abs(last - SHORT), np.inf)
        fitting = distance <= np.sort(distance)[min(8, np.isfinite(distance).sum() - 1)]
    numbers = np.flatnonzero(fitting)
    return int(numbers[np.argsort(mean[numbers], kind="stable")[(len(numbers) - 1) // 2]])


def sentence(loaded: LoadedModel, most: int) -> tuple[torch.Tensor, str]:
    """A sentence of the passage, as the beginning of a document: so all that the model knows is to be seen.

    Args:
        subject: the model with its text.
        most: tokens.

    Returns:
        Ids, (time,), begun with ``<|bos|>``; and what they are, in words. Of a conversation, the beginning.
    """
    passage, tokenizer = loaded.passage, loaded.model.tokenizer
    found = SENTENCE.search(tokenizer.decode(passage.ids.tolist())) if passage.scored.all() else None
    if found is None:
        ids = passage.ids[:most].tolist()
        return torch.tensor(ids), f"The first {len(ids)} tokens of {passage.description}."
    ids = [tokenizer.bos, *tokenizer.encode(found[0])][:most]
    return torch.tensor(ids), f"A sentence of {passage.description}: the first {len(ids)} tokens, read by themselves."


@torch.inference_mode()
def _scored_passage(gpt: GPT, ids: torch.Tensor, scored: torch.Tensor, description: str) -> Passage:
    scored = scored[: len(ids) - 1]
    device = gpt.device
    nats = gpt.losses(ids[None, :-1].to(device), ids[None, 1:].to(device))[0].cpu()
    return Passage(ids.numpy(), scored.numpy(), nats.numpy().astype(np.float64), description)
