"""Batches: of the endless stream to train on, and of held-out rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from nanochat.data.tokens.held_out_rows import HeldOut
from nanochat.data.tokens.shards import TokenShards
from nanochat.data.tokens.token_stream import Segment, TokenStream
from nanochat.model import IGNORE

Batch = tuple[Tensor, Tensor]  # ids and targets, both (rows, time), int64

# Held-out rows are scored in batches of about this many tokens. Of a small model on a CPU larger ones are no quicker,
# and take far more memory than training does.
VAL_BATCH_TOKENS = 2048
# Their length is a multiple of so many: in bfloat16 something is kept for each size of a batch (17 MB at the tiny
# shape, of 8,192 tokens), and a score on all of the held-out text had a new size in each of its batches.
VAL_LENGTH_MULTIPLE = 64


class TrainingBatches(IterableDataset[Batch]):
    """This rank's part of the endless token stream, in batches; the same whatever the number of workers.

    Args:
        shards: of the corpus.
        seed: of the order of documents.
        start: place in the stream, in tokens, of the first row of the first step.
        rows: rows in a batch.
        row_length: predictions in a row; a row takes one token more from the stream.
        rank: which of the processes this is: each takes every ``world_size``-th batch.
        world_size: number of processes.
        origin: a segment of the stream at or before ``start``, from which on it is known; None begins at its beginning.
    """

    def __init__(
        self,
        shards: TokenShards,
        seed: int,
        start: int,
        rows: int,
        row_length: int,
        rank: int = 0,
        world_size: int = 1,
        origin: Segment | None = None,
    ) -> None:
        self.shards, self.seed, self.start, self.origin = shards, seed, start, origin
        self.rows, self.row_length = rows, row_length
        self.rank, self.world_size = rank, world_size

    @property
    def size(self) -> int:
        """Tokens that a batch takes from the stream."""
        return self.rows * (self.row_length + 1)

    def __iter__(self) -> Iterator[Batch]:
        # The loader takes one batch from each worker in turn, so workers that take every n-th batch give the order
        # that a single process would.
        worker = get_worker_info()
        batch, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        stream = TokenStream(self.shards, self.seed, self.origin)
        while True:
            place = self.start + (batch * self.world_size + self.rank) * self.size
            tokens = torch.from_numpy(stream.read(place, self.size)).view(self.rows, self.row_length + 1)
            # whole, as a GPU's copy of a view with gaps would first be gathered in memory that is not pinned: a stop
            yield tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
            batch += step


class TrainingLoader:
    """Hands out batches, measures how long they were waited for, and says how far the stream has been read.

    Args:
        loader: of :class:`TrainingBatches`.
        on_batch: called with the number of batches handed out so far, before each one.

    Attributes:
        seconds_waited: since the beginning, for all batches.
    """

    def __init__(self, loader: DataLoader[Batch], on_batch: Callable[[int], None]) -> None:
        self.loader, self.on_batch = loader, on_batch
        self.seconds_waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.loader)
        count = 0
        while True:
            self.on_batch(count)
            started = time.perf_counter()
            try:
                batch = next(batches)
            except ValueError as error:
                raise ValueError(_without_traceback(str(error))) from error
            self.seconds_waited += time.perf_counter() - started
            yield batch
            count += 1


def _without_traceback(message: str) -> str:
    """What went wrong in a worker process; torch puts the whole traceback into the message."""
    return message.rsplit("ValueError: ", 1)[-1].strip() if message.startswith("Caught ValueError") else message


def number_of_lengths(longest: int) -> int:
    """How many lengths batches of held-out rows may have, the longest of which has so many tokens."""
    return -(-longest // VAL_LENGTH_MULTIPLE)


class HeldOutBatches:
    """Held-out rows in batches of similar lengths, each row in one batch of one rank; may be iterated again.

    Args:
        rows: the held-out rows.
        count: how many of them, from the first.
        bos: id to fill up short rows with; their targets are masked, so it does not matter which.
        rank: which of the processes this is.
        world_size: number of processes; each gets the same number of batches, filled up with masked ones.
    """

    def __init__(self, rows: HeldOut, count: int, bos: int, rank: int = 0, world_size: int = 1) -> None:
        self.rows, self.bos = rows, bos
        longest_first = sorted(range(count), key=lambda index: -int(rows.sizes[index]))
        batches: list[list[int]] = []
        for index in longest_first:
            if not batches or (len(batches[-1]) + 1) * self._length(batches[-1]) > VAL_BATCH_TOKENS:
                batches.append([])
            batches[-1].append(index)
        batches += [[] for _ in range(-len(batches) % world_size)]
        self.batches = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def _length(self, indices: Sequence[int]) -> int:
        """Of a batch, whose first row is the longest."""
        longest = int(self.rows.sizes[indices[0]]) if indices else 1
        return min(longest + -longest % VAL_LENGTH_MULTIPLE, self.rows.length)

    def __iter__(self) -> Iterator[Batch]:
        for indices in self.batches:
            rows = [self.rows.example(index) for index in indices]
            time = self._length(indices)
            ids = torch.full((max(len(rows), 1), time), self.bos)
            targets = torch.full_like(ids, IGNORE)
            for i, (row_ids, row_targets) in enumerate(rows):
                ids[i, : len(row_ids)] = row_ids
                targets[i, : len(row_ids)] = row_targets
            yield ids, targets
