"""Rows of held-out text to score a model on, each document alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanochat.data.tokens.shuffle import shuffled
from nanochat.data.tokens.token_files import TokenFile


class HeldOut(ABC):
    """Rows to score a model on.

    Attributes:
        length: predictions in the longest possible row.
        sizes: (rows,), predictions in each row.
    """

    length: int
    sizes: NDArray[Any]

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def predictions(self) -> int:
        """Predictions in all rows."""
        return int(self.sizes.sum())

    def first(self, predictions: int) -> int:
        """Number of rows, from the first, that hold at least this many predictions; all rows if they hold fewer."""
        return min(int(np.searchsorted(np.cumsum(self.sizes), predictions)) + 1, len(self))

    @abstractmethod
    def example(self, index: int) -> tuple[Tensor, Tensor]:
        """Ids and targets of a row, both (time,)."""


class HeldOutRows(HeldOut):
    """The held-out documents in rows of at most ``length`` predictions, each document alone.

    A document of n tokens (including ``<|bos|>``) has n - 1 predictions: each token except the first is predicted once,
    from the tokens before it in its row. So the score does not depend on how training packs its rows.

    The rows are in a shuffled order, so that the first few are a fair sample of all.

    Args:
        file: the held-out documents.
        length: predictions in a row, at most.
    """

    def __init__(self, file: TokenFile, length: int) -> None:
        self.file, self.length = file, length
        predictions = np.diff(file.starts) - 1  # of each document
        rows = np.maximum(-(-predictions // length), 0)  # rounded up
        document = np.repeat(np.arange(file.documents), rows)
        nth = np.arange(len(document)) - np.repeat(np.cumsum(rows) - rows, rows)  # index of the row in its document
        begins = file.starts[document] + nth * length
        ends = np.minimum(begins + length, file.starts[document + 1] - 1)
        order = shuffled(len(document), 0, 0)
        self.begins, self.sizes = begins[order], (ends - begins)[order]

    def row(self, index: int) -> NDArray[np.int64]:
        """Tokens of a row: token i is an input, and token i + 1 its target."""
        begin = self.begins[index]
        return self.file.tokens[begin : begin + self.sizes[index] + 1].astype(np.int64)

    def example(self, index: int) -> tuple[Tensor, Tensor]:
        row = torch.from_numpy(self.row(index))
        return row[:-1], row[1:]
