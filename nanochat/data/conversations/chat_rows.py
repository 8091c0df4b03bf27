"""Conversations to rows: packed whole into rows to train on, each in its own row to score."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from nanochat.data.conversations.mixture import Mixture, Turns
from nanochat.data.tokens.batches import Batch
from nanochat.data.tokens.held_out_rows import HeldOut
from nanochat.data.tokens.shuffle import shuffled
from nanochat.model import IGNORE
from nanochat.tasks.task import Item
from nanochat.tokenizer import Tokenizer, render


class Rendered(NamedTuple):
    """A conversation as ids, and a mask of the same length: 1 where the id is a target."""

    ids: list[int]
    mask: list[int]


def pack(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Packs items into few bins by best-fit decreasing: the largest first, each where it leaves the least room.

    Args:
        sizes: of the items, none larger than the capacity.
        capacity: of a bin.

    Returns:
        For each bin the indices of its items.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (room left, index of the bin), sorted
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        best = bisect_left(room, (sizes[index], 0))
        if best < len(room):
            left, chosen = room.pop(best)
        else:
            left, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(index)
        insort(room, (left - sizes[index], chosen))
    return bins


class Origin(NamedTuple):
    """A round of the mixture, and the number of its first row in the stream."""

    round: int
    row: int


class ConversationStream:
    """An endless stream of rows, a function of the seed and the row's number.

    Conversations are packed whole, one round at a time; one that is longer than a row is cut at its end. To find the
    rows of a round, all rounds before it are packed, starting at the origin.

    Args:
        mixture: of tasks.
        tokenizer: the tokenizer.
        row_length: predictions in a row, which holds one token more.
        seed: of the order.
        origin: a round whose first row is known from an earlier run; None starts at the first round.
    """

    def __init__(
        self, mixture: Mixture, tokenizer: Tokenizer, row_length: int, seed: int, origin: Origin | None = None
    ) -> None:
        self.mixture, self.tokenizer, self.seed = mixture, tokenizer, seed
        self.capacity = row_length + 1
        self._origins = [origin or Origin(0, 0)]
        self._open: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    def origin(self, row: int) -> Origin:
        """The round that contains a row."""
        while self._origins[-1].row <= row:
            last = self._origins[-1]
            ids, _ = self._round(last.round)
            self._origins.append(Origin(last.round + 1, last.row + len(ids)))
        index = bisect_right(self._origins, row, key=lambda origin: origin.row) - 1
        assert index >= 0, f"row {row} lies before the origin of this stream"
        return self._origins[index]

    def row(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and mask of a row, both (row_length + 1,)."""
        origin = self.origin(number)
        ids, mask = self._round(origin.round)
        return ids[number - origin.row], mask[number - origin.row]

    def _round(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows of a round: ids and mask, both (rows, row_length + 1)."""
        if self._open is None or self._open[0] != number:
            self._open = (number, *self._pack(number))
        return self._open[1:]

    def _pack(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rendered = [r for turns in self.mixture.round(self.seed, number) for r in self._render(turns)]
        rendered = [r for r in rendered if any(r.mask)]  # a cut may have left no targets
        bins = pack([len(r.ids) for r in rendered], self.capacity)
        ids = np.full((len(bins), self.capacity), self.tokenizer.bos, np.int64)
        mask = np.zeros_like(ids)
        for row, chosen in enumerate(shuffled(len(bins), self.seed, number)):
            begin = 0
            for index in shuffled(len(bins[chosen]), self.seed, number, int(chosen)):
                conversation = rendered[bins[chosen][index]]
                end = begin + len(conversation.ids)
                ids[row, begin:end], mask[row, begin:end] = conversation
                begin = end
        return ids, mask

    def _render(self, turns: Turns) -> list[Rendered]:
        """A conversation as ids; split into its items if they do not fit into one row together."""
        ids, mask = render(self.tokenizer, [message for messages in turns for message in messages])
        if len(ids) > self.capacity and len(turns) > 1:
            return [r for messages in turns for r in self._render([messages])]
        return [Rendered(ids[: self.capacity], mask[: self.capacity])]

    def target_share(self) -> float:
        """Share of the predictions that are targets, in the first round of this stream."""
        _, mask = self._round(self._origins[0].round)
        return float(mask[:, 1:].mean()) if len(mask) else 1.0


def to_targets(ids: Tensor, mask: Tensor) -> Batch:
    """Ids and targets, both (..., time - 1). Targets outside the mask are IGNORE."""
    return ids[..., :-1], ids[..., 1:].masked_fill(mask[..., 1:] == 0, IGNORE)


class ConversationBatches(IterableDataset[Batch]):
    """This rank's batches of the stream of rows; the same for any number of workers.

    Args:
        stream: of rows.
        start: number of the first row of the first step.
        rows: rows in a batch.
        rank: number of this process; it takes every ``world_size``-th batch.
        world_size: number of processes.
    """

    def __init__(self, stream: ConversationStream, start: int, rows: int, rank: int = 0, world_size: int = 1) -> None:
        self.stream, self.start, self.rows = stream, start, rows
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        batch, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        while True:
            first = self.start + (batch * self.world_size + self.rank) * self.rows
            rows = [self.stream.row(number) for number in range(first, first + self.rows)]
            ids, mask = (torch.from_numpy(np.stack(parts)) for parts in zip(*rows, strict=True))
            ids, targets = to_targets(ids, mask)
            yield ids.contiguous(), targets  # contiguous as in batches.TrainingBatches
            batch += step


class HeldOutConversations(HeldOut):
    """Held-out conversations, each in its own row.

    Args:
        items: the conversations, in an order whose beginning is a fair sample.
        tokenizer: the tokenizer.
        length: predictions in a row, at most; a longer conversation is cut at its end.
    """

    def __init__(self, items: Sequence[Item], tokenizer: Tokenizer, length: int) -> None:
        self.length = length
        rendered = (Rendered(*render(tokenizer, item.messages)) for item in items)
        cut = (Rendered(r.ids[: length + 1], r.mask[: length + 1]) for r in rendered)
        self._rows = [r for r in cut if any(r.mask)]
        self.sizes = np.array([len(r.ids) - 1 for r in self._rows], np.int64)

    def example(self, index: int) -> Batch:
        """Ids and targets of a row, both (time,)."""
        ids, mask = self._rows[index]
        return to_targets(torch.tensor(ids), torch.tensor(mask))
