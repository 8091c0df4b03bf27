"""From token files to rows: documents packed without padding to train on, each alone to be scored on."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nanochat.data.prepare import TokenFile


def shuffled(count: int, seed: int, epoch: int = 0) -> NDArray[np.int64]:
    """A permutation of ``range(count)`` that depends on its arguments alone.

    Each index gets a pseudo-random number (SplitMix64, Steele, Lea and Flood 2014), and the numbers are sorted:
    no state, and the same on every machine and with every version of every library.
    """
    mixed = np.arange(count, dtype=np.uint64)
    for salt in (seed, epoch):
        mixed = _splitmix64(mixed + _splitmix64(np.array([salt % 2**64], dtype=np.uint64)))
    return np.argsort(mixed, kind="stable")


def _splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class TokenStream:
    """An endless stream of tokens: all documents in a shuffled order, then all again in another, and so on.

    It is a function of the seed and the place in it, and has no state: any process can read any part, and training
    resumes anywhere.

    Args:
        file: the documents.
        seed: of the order.
    """

    def __init__(self, file: TokenFile, seed: int) -> None:
        if not len(file.tokens):
            raise ValueError("there is nothing to train on: the corpus is empty")
        self.file = file
        self.seed = seed
        self._epoch = lru_cache(maxsize=2)(self._order_documents)

    @property
    def epoch_tokens(self) -> int:
        """Tokens in one pass over the documents."""
        return len(self.file.tokens)

    def _order_documents(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The documents of an epoch in their order, and where in the epoch each of them ends."""
        order = shuffled(self.file.documents, self.seed, epoch)
        return order, np.cumsum(np.diff(self.file.starts)[order])

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """``count`` tokens from place ``start`` of the stream on."""
        out = np.empty(count, dtype=np.int64)
        filled = 0
        while filled < count:
            epoch, place = divmod(start + filled, self.epoch_tokens)
            order, ends = self._epoch(epoch)
            index = int(np.searchsorted(ends, place, side="right"))
            while filled < count and index < len(order):
                end = int(self.file.starts[order[index] + 1])
                begin = end - (int(ends[index]) - place)
                piece = self.file.tokens[begin : min(end, begin + count - filled)]
                out[filled : filled + len(piece)] = piece
                filled += len(piece)
                place += len(piece)
                index += 1
        return out

    def row(self, index: int, length: int) -> NDArray[np.int64]:
        """Row ``index`` of the stream when it is cut into rows of ``length`` tokens: none lost, none twice."""
        return self.read(index * length, length)


class HeldOutRows:
    """The held-out documents in rows of at most ``length`` predictions, each document alone.

    A document of n tokens (``<|bos|>`` included) asks for n - 1 predictions: each token but the first is predicted
    once, from what comes before it in its row. So the score does not depend on how training packs its rows.

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
        nth = np.arange(len(document)) - np.repeat(np.cumsum(rows) - rows, rows)  # row of its document
        begins = file.starts[document] + nth * length
        ends = np.minimum(begins + length, file.starts[document + 1] - 1)
        order = shuffled(len(document), seed=0)
        self.begins, self.sizes = begins[order], (ends - begins)[order]

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def predictions(self) -> int:
        return int(self.sizes.sum())

    def first(self, predictions: int) -> int:
        """How many of the first rows hold at least that many predictions, or all rows if they hold fewer."""
        return min(int(np.searchsorted(np.cumsum(self.sizes), predictions)) + 1, len(self))

    def row(self, index: int) -> NDArray[np.int64]:
        """Inputs and targets of a row: token i of it is an input, token i + 1 its target."""
        begin = self.begins[index]
        return self.file.tokens[begin : begin + self.sizes[index] + 1].astype(np.int64)
