"""Held-out rows from lists of ids, and a LoadedModel without any files."""

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
    """Rows of ids, each of which is the target of the one before; targets in ``given`` are not scored."""

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
    """One row per text, starting with ``<|bos|>``; each byte is a token."""
    tokenizer = byte_tokenizer()
    return Rows([[tokenizer.bos, *tokenizer.encode(text)] for text in content])


def fake_loaded_model(gpt: GPT, rows: Any, note: str = "", passage: str | None = None) -> LoadedModel:
    """A LoadedModel whose model and held-out text are given instead of read from a run."""
    run = Run(Path("nowhere"), "fake", 0, "pretrain")
    loaded = LoadedModel(run, ModelOptions(passage=passage))
    loaded.__dict__.update(  # the cached properties
        model=Model(gpt.eval(), byte_tokenizer(), Path("fake.ckpt"), False),
        text=HeldOutText(rows, "held-out documents", note),
        checkpoint={},
    )
    return loaded
