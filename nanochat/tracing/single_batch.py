"""A LightningDataModule of a single row, for the one step of training that a trace shows."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from nanochat.data.synthetic import SyntheticRows
from nanochat.model import IGNORE
from nanochat.tokenizer import Tokenizer


class SingleBatch(SyntheticRows):
    """The same row, once.

    Args:
        ids: (time,), int64.
        targets: (time,), int64.
        tokenizer: that made them.
    """

    def __init__(self, ids: Tensor, targets: Tensor, tokenizer: Tokenizer) -> None:
        time = len(ids)
        super().__init__(tokenizer, context=time, row_length=time, batch_size=1, tokens_per_step=None)
        self._batch = ids[None], targets[None]

    @property
    def target_share(self) -> float:
        """Exact here, so that the loss is the mean over what is learned."""
        return float((self._batch[1] != IGNORE).float().mean())

    def train_dataloader(self) -> DataLoader[Any]:
        rows: Any = [self._batch]
        return DataLoader(rows, batch_size=None)
