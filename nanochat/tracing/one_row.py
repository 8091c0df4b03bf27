"""A LightningDataModule of a single row, for the one step of training that a trace shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from nanochat.data.module import RowsDataModule
from nanochat.model import IGNORE
from nanochat.tokenizer import Tokenizer


class OneRow(RowsDataModule):
    """The same row, once.

    Args:
        ids: (time,), int64.
        targets: (time,), int64.
        tokenizer: that made them.
    """

    def __init__(self, ids: Tensor, targets: Tensor, tokenizer: Tokenizer) -> None:
        time = len(ids)
        super().__init__(tokenizer.vocab_size, time, time, 1, None, 1, 1, False, 0, 0)
        self._batch = ids[None], targets[None]
        self._tokenizer_used = tokenizer

    def prepare_data(self) -> None:
        """There is nothing to prepare."""

    def _prepare_rows(self) -> None:
        pass

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer_used

    @property
    def source(self) -> str:
        return "one row"

    @property
    def extent(self) -> str:
        return f"{len(self._batch[0][0]):,} tokens"

    @property
    def fingerprint(self) -> str:
        return ""

    @property
    def target_share(self) -> float:
        """Exact here, so that the loss is the mean over what is learned."""
        return float((self._batch[1] != IGNORE).float().mean())

    def prompt(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    @property
    def stop_ids(self) -> Sequence[int]:
        return [self.tokenizer.bos]

    def _go_on(self, state_dict: dict[str, object]) -> None:
        pass

    def train_dataloader(self) -> DataLoader[Any]:
        rows: Any = [self._batch]
        return DataLoader(rows, batch_size=None)
