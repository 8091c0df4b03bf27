"""Rows that are made up, so that there is nothing to fetch, to prepare or to go on from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from nanochat.data.data_module import VAL_ROW, RowsDataModule
from nanochat.data.tokens.batches import Batch
from nanochat.tokenizer import Tokenizer


class SyntheticRows(RowsDataModule):
    """What every LightningDataModule of this project answers, for one whose rows come from no text.

    Args:
        tokenizer: whose ids the rows are made of.
        context: the longest text that the model can take in.
        row_length: tokens in a row.
        batch_size: rows in a micro-step.
        tokens_per_step: of the optimizer; None for those of a micro-step.
    """

    def __init__(
        self, tokenizer: Tokenizer, context: int, row_length: int, batch_size: int, tokens_per_step: int | None
    ) -> None:
        nothing_else: Any = {"val_tokens": 1, "validations": 1, "validate_all": False, "num_workers": 0, "seed": 0}
        super().__init__(tokenizer.vocab_size, context, row_length, batch_size, tokens_per_step, **nothing_else)
        self._made_of = tokenizer

    def prepare_data(self) -> None:
        """There is nothing to prepare."""

    def _prepare_rows(self) -> None:
        pass

    @property
    def tokenizer(self) -> Tokenizer:
        return self._made_of

    @property
    def source(self) -> str:
        return "made up"

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

    def _go_on(self, state_dict: dict[str, Any]) -> None:
        pass


class RandomRows(SyntheticRows):
    """The same rows of random tokens over and over, which are as much work as text.

    Args: as those of :class:`SyntheticRows`, but the number of tokens instead of a tokenizer.
    """

    def __init__(
        self, vocab_size: int, context: int, row_length: int, batch_size: int, tokens_per_step: int | None
    ) -> None:
        bytes_alone = Tokenizer([bytes([byte]) for byte in range(256)], vocab_size)
        super().__init__(bytes_alone, context, row_length, batch_size, tokens_per_step)
        self.held_out = SimpleNamespace(length=min(VAL_ROW, context))  # type: ignore[assignment]  # to time a score

    def train_dataloader(self) -> Iterator[Batch]:  # type: ignore[override]  # there is nothing to wait for
        batch = random_batch(self.vocab_size, self.batch_size, self.row_length)
        while True:
            yield batch


def random_batch(vocab_size: int, rows: int, row_length: int, device: torch.device | str = "cpu") -> Batch:
    """Ids and targets, both (rows, row_length), always the same."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocab_size, (rows, row_length + 1), generator=generator).to(device)
    return tokens[:, :-1], tokens[:, 1:]
