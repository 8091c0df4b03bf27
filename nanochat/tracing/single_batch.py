"""A LightningDataModule with a single batch of one row, for the training step that ``trace`` shows."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from nanochat.data.synthetic import SyntheticRows
from nanochat.model import IGNORE
from nanochat.tokenizer import Tokenizer


class SingleBatch(SyntheticRows):
    """One batch of one row.

    Args:
        ids: (time,), int64.
        targets: (time,), int64; ``IGNORE`` where no loss is taken.
        tokenizer: the tokenizer of the ids.
    """

    def __init__(self, ids: Tensor, targets: Tensor, tokenizer: Tokenizer) -> None:
        time = len(ids)
        super().__init__(tokenizer, context=time, row_length=time, batch_size=1, tokens_per_step=None)
        self._batch = ids[None], targets[None]

    @property
    def target_share(self) -> float:
        """The share of positions with a target, exact for this batch: the loss is the mean over these positions."""
        return float((self._batch[1] != IGNORE).float().mean())

    def train_dataloader(self) -> DataLoader[Any]:
        batches: Any = [self._batch]
        return DataLoader(batches, batch_size=None)
