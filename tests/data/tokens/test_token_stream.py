from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from nanochat.data.text_data import TextDataModule
from nanochat.data.tokens.batches import TrainingBatches
from nanochat.data.tokens.prepare import CorpusOptions, prepare
from nanochat.data.tokens.shards import ShardId
from nanochat.data.tokens.shuffle import shuffled
from nanochat.data.tokens.token_files import TokenFile
from nanochat.data.tokens.token_stream import TokenStream


def token_file(lengths: list[int]) -> TokenFile:
    """Documents whose tokens are all different: 0, 1, 2, ..."""
    starts = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return TokenFile(Path(), "train", np.arange(starts[-1], dtype=np.uint32), starts)


class ShardsInMemory:
    """Documents distributed over a few shards."""

    def __init__(self, lengths: list[int], count: int = 1) -> None:
        whole = token_file(lengths)
        self.documents = [whole.tokens[a:b] for a, b in zip(whole.starts, whole.starts[1:], strict=False)]
        self.files = [self._file(self.documents[i::count]) for i in range(count)]

    @staticmethod
    def _file(documents: list[np.ndarray]) -> TokenFile:
        starts = np.concatenate(([0], np.cumsum([len(d) for d in documents], dtype=np.int64))).astype(np.int64)
        return TokenFile(Path(), "train", np.concatenate([np.zeros(0, np.uint32), *documents]), starts)

    @property
    def tokens(self) -> int:
        return sum(len(file.tokens) for file in self.files)

    def after(self, seed: int, epoch: int, shard: ShardId | None) -> ShardId | None:
        order = shuffled(len(self.files), seed, epoch).tolist()
        place = 0 if shard is None else order.index(shard[1]) + 1
        return (0, order[place]) if place < len(order) else None

    def size(self, shard: ShardId) -> int:
        return len(self.files[shard[1]].tokens)

    def open(self, shard: ShardId) -> TokenFile:
        return self.files[shard[1]]


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(LENGTHS, st.integers(1, 4), st.integers(1, 50), st.integers(0, 5))
def test_an_epoch_has_each_token_once(lengths: list[int], shards: int, row: int, seed: int) -> None:
    file = token_file(lengths)
    stream = TokenStream(ShardsInMemory(lengths, shards), seed)
    total, epochs = sum(lengths), 3
    rows = [stream.read(i * row, row) for i in range(-(-epochs * total // row))]
    assert all(len(r) == row for r in rows)
    tokens = np.concatenate(rows)[: epochs * total]
    for epoch in tokens.reshape(epochs, total):
        assert sorted(epoch) == list(range(total))  # each token once
        cuts = np.flatnonzero(np.diff(epoch) != 1) + 1
        firsts = epoch[np.concatenate(([0], cuts))]
        assert set(firsts) <= set(file.starts)  # and documents are whole, in some order


@given(LENGTHS, st.integers(1, 4), st.integers(0, 500), st.integers(1, 100), st.integers(1, 30))
def test_any_position_can_be_read_directly(lengths: list[int], shards: int, start: int, count: int, part: int) -> None:
    corpus = ShardsInMemory(lengths, shards)
    stream = TokenStream(corpus, seed=0)
    whole = stream.read(0, start + count)[start:]
    parts = [stream.read(start + i, min(part, count - i)) for i in range(0, count, part)]
    assert (np.concatenate(parts) == whole).all()
    # also from the segment alone, as in a resumed run
    later = TokenStream(corpus, seed=0, origin=stream.segment_at(start))
    assert (later.read(start, count) == whole).all()


def test_epochs_and_seeds_have_different_orders() -> None:
    orders = [tuple(shuffled(50, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_the_order_is_fixed() -> None:
    # recorded: runs on other machines and with later versions must have the same order
    assert shuffled(10, 42, 1).tolist() == [4, 7, 2, 6, 3, 8, 0, 9, 5, 1]


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_batches_do_not_depend_on_the_number_of_workers(corpus_folder: Path, num_workers: int) -> None:
    shards = prepare(CorpusOptions(str(corpus_folder)), 300).train
    assert shards is not None

    def first(workers: int) -> list[torch.Tensor]:
        loader = DataLoader(
            TrainingBatches(shards, 7, 100, rows=2, row_length=32), batch_size=None, num_workers=workers
        )
        return [torch.stack(batch) for batch, _ in zip(loader, range(7), strict=False)]

    torch.testing.assert_close(first(num_workers), first(0), rtol=0, atol=0)


def test_two_ranks_read_the_batches_of_one() -> None:
    file = ShardsInMemory([30] * 30, 3)

    def take(batches: TrainingBatches, n: int) -> list[torch.Tensor]:
        return [batch[0] for batch, _ in zip(batches, range(n), strict=False)]

    alone = take(TrainingBatches(file, 0, 0, rows=4, row_length=8), 3)
    ranks = [take(TrainingBatches(file, 0, 0, 2, 8, rank, 2), 3) for rank in range(2)]
    for whole, *halves in zip(alone, *ranks, strict=True):
        assert torch.equal(torch.cat(halves), whole)


def test_row_length_is_at_most_the_context() -> None:
    assert TextDataModule(context=128, row_length=256).row_length == 128
    assert TextDataModule(context=512, row_length=256).row_length == 256
    assert TextDataModule(context=512).row_length == 512


def test_targets_are_the_next_tokens() -> None:
    ids, targets = next(iter(TrainingBatches(ShardsInMemory([100] * 3), 0, 0, rows=2, row_length=10)))
    assert (targets - ids).eq(1).all()
    assert ids.shape == (2, 10)
