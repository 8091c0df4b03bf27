"""Synthetic rows for timing and tracing: a data module that needs no text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from nanochat.data.data_module import VAL_ROW, RowsDataModule
from nanochat.data.tokens.batches import Batch
from nanochat.tokenizer import Tokenizer


class SyntheticRows(RowsDataModule):
    """Base of data modules whose rows come from no text. A subclass adds ``train_dataloader``.

    Args:
        tokenizer: of the ids in the rows.
        context: longest sequence that the model can read, in tokens.
        row_length: tokens in a row.
        batch_size: rows in a micro-step.
        tokens_per_step: tokens per optimizer step; None takes one micro-step.
    """

    def __init__(
        self, tokenizer: Tokenizer, context: int, row_length: int, batch_size: int, tokens_per_step: int | None
    ) -> None:
        unused: Any = {"val_tokens": 1, "validations": 1, "validate_all": False, "num_workers": 0, "seed": 0}
        super().__init__(tokenizer.vocab_size, context, row_length, batch_size, tokens_per_step, **unused)
        self._given_tokenizer = tokenizer

    def prepare_data(self) -> None:
        """Does nothing."""

    def _open_data(self) -> None:
        pass

    @property
    def tokenizer(self) -> Tokenizer:
        return self._given_tokenizer

    @property
    def source(self) -> str:
        return "synthetic"

    @property
    def extent(self) -> str:
        return "no text"

    @property
    def fingerprint(self) -> str:
        return ""

    def prompt(self, text: str) -> list[int]:
        return []

    @property
    def stop_ids(self) -> Sequence[int]:
        return []

    def _stream_state(self) -> dict[str, Any]:
        return {}

    def _load_stream_state(self, state: dict[str, Any]) -> None:
        pass


class RandomRows(SyntheticRows):
    """The same batch of random tokens in every micro-step, which takes the same compute as text.

    Args: those of :class:`SyntheticRows`, with the vocabulary size instead of a tokenizer.
    """

    def __init__(
        self, vocab_size: int, context: int, row_length: int, batch_size: int, tokens_per_step: int | None
    ) -> None:
        byte_tokenizer = Tokenizer([bytes([byte]) for byte in range(256)], vocab_size)
        super().__init__(byte_tokenizer, context, row_length, batch_size, tokens_per_step)
        self.held_out = SimpleNamespace(length=min(VAL_ROW, context))  # type: ignore[assignment]  # to time scoring

    def train_dataloader(self) -> Iterator[Batch]:  # type: ignore[override]  # no DataLoader is needed
        batch = random_batch(self.vocab_size, self.batch_size, self.row_length)
        while True:
            yield batch


def random_batch(vocab_size: int, rows: int, row_length: int, device: torch.device | str = "cpu") -> Batch:
    """Random ids and targets, both (rows, row_length), the same on every call."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocab_size, (rows, row_length + 1), generator=generator).to(device)
    return tokens[:, :-1], tokens[:, 1:]
