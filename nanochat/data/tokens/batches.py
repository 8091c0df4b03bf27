"""Batches: of the endless stream to train on, and of held-out rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from nanochat.data.tokens.held_out_rows import HeldOut
from nanochat.data.tokens.shards import TokenShards
from nanochat.data.tokens.token_stream import Segment, TokenStream
from nanochat.data.tokens.workers import init_loader_worker
from nanochat.model import IGNORE

Batch = tuple[Tensor, Tensor]  # ids and targets, both (rows, time), int64

# Tokens in a batch of held-out rows, about. For a small model on a CPU larger batches are no faster, and take far more
# memory than training does.
VAL_BATCH_TOKENS = 2048
# Batches of held-out rows are padded to a multiple of this length: in bfloat16 oneDNN caches something for each shape
# (17 MB per shape at tiny, of 8,192 tokens), and scoring all held-out text had a new shape in each batch.
VAL_LENGTH_MULTIPLE = 64


class TrainingBatches(IterableDataset[Batch]):
    """This rank's batches of the endless token stream; the same for any number of workers.

    Args:
        shards: of the corpus.
        seed: of the order of documents.
        start: position in the stream, in tokens, of the first row of the first step.
        rows: rows in a batch.
        row_length: predictions in a row, which takes one token more from the stream.
        rank: number of this process; it takes every ``world_size``-th batch.
        world_size: number of processes.
        origin: a segment at or before ``start``; the stream before it is not read. None reads from the beginning.
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
        # The loader takes one batch from each worker in turn. Worker w of n makes the batches w, w + n, ..., so the
        # order is that of a single process.
        worker = get_worker_info()
        batch, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        stream = TokenStream(self.shards, self.seed, self.origin)
        while True:
            position = self.start + (batch * self.world_size + self.rank) * self.size
            tokens = torch.from_numpy(stream.read(position, self.size)).view(self.rows, self.row_length + 1)
            # contiguous: else the copy to a GPU would gather the view in unpinned memory first, and so synchronise
            yield tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
            batch += step


def new_data_loader(batches: IterableDataset[Batch], num_workers: int, pin_memory: bool) -> DataLoader[Any]:
    """A DataLoader of a dataset that yields whole batches."""
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        worker_init_fn=init_loader_worker,
    )


class TrainingLoader:
    """Yields the batches of a DataLoader, and measures how long training waits for them.

    Args:
        loader: the DataLoader.
        on_batch: called before each batch with the number of batches yielded so far.

    Attributes:
        seconds_waited: for all batches so far.
    """

    def __init__(self, loader: DataLoader[Batch], on_batch: Callable[[int], None] | None = None) -> None:
        self.loader, self.on_batch = loader, on_batch
        self.seconds_waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.loader)
        count = 0
        while True:
            if self.on_batch is not None:
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
    """The error of a worker process, without the traceback that torch puts into the message."""
    return message.rsplit("ValueError: ", 1)[-1].strip() if message.startswith("Caught ValueError") else message


def number_of_lengths(longest: int) -> int:
    """Number of different lengths that batches of held-out rows of up to ``longest`` tokens can have."""
    return -(-longest // VAL_LENGTH_MULTIPLE)


class HeldOutBatches:
    """Held-out rows in batches of similar lengths, each row in one batch of one rank. Can be iterated repeatedly.

    Args:
        rows: the held-out rows.
        count: number of rows to use, from the first.
        bos: id to pad short rows with. Its targets are masked, so any id would do.
        rank: number of this process.
        world_size: number of processes. All get the same number of batches; missing ones are fully masked.
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
        """Padded length of a batch. Its first row is the longest."""
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
