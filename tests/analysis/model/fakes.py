"""Held-out rows given by hand, and a subject made of a model and such rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nanochat.analysis.figure import ModelOptions
from nanochat.analysis.model.held_out_text import HeldOutText
from nanochat.analysis.model.loaded_model import LoadedModel
from nanochat.data.tokens.held_out_rows import HeldOut
from nanochat.model import GPT, IGNORE
from nanochat.runs import Run
from nanochat.serving.model import Model
from tests.inference.models import byte_tokenizer


class Rows(HeldOut):
    """Rows of ids, of which each predicts the next one; a target in ``given`` is not asked for."""

    def __init__(self, rows: Sequence[Sequence[int]], given: Sequence[int] = ()) -> None:
        self.rows, self.given = rows, given
        self.sizes = np.array([len(row) - 1 for row in rows])
        self.length = int(self.sizes.max())

    def example(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = torch.tensor(self.rows[index])
        targets = row[1:].clone()
        for token in self.given:
            targets[targets == token] = IGNORE
        return row[:-1], targets


def texts(*content: str) -> Rows:
    """A row for each text, begun with ``<|bos|>``; a token is a byte."""
    tokenizer = byte_tokenizer()
    return Rows([[tokenizer.bos, *tokenizer.encode(text)] for text in content])


def fake_model(gpt: GPT, rows: Any, note: str = "", passage: str | None = None) -> LoadedModel:
    """What the figures look at, without any file."""
    run = Run(Path("nowhere"), "byhand", 0, "pretrain")
    made = LoadedModel(run, ModelOptions(passage=passage))
    made.__dict__.update(  # what it would have read
        model=Model(gpt.eval(), byte_tokenizer(), Path("byhand.ckpt"), False),
        text=HeldOutText(rows, "held-out documents", note),
        checkpoint={},
    )
    return made
