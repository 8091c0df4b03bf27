"""Large corpora: shards that are tokenized during training."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nanochat.data.corpus.corpora import LargeCorpus, open_corpus
from nanochat.data.text_data import TextDataModule
from nanochat.data.tokens.prefetch import Prefetcher
from nanochat.data.tokens.prepare import CorpusOptions, prepare
from nanochat.data.tokens.shards import StreamedShards
from nanochat.data.tokens.token_stream import TokenStream
from tests.conftest import sentences
from tests.data.corpus.test_documents import write_parquet


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as a large corpus, in spans of 5 KB. The prefetching processes get the same spans."""
    monkeypatch.setattr("nanochat.data.corpus.corpora.LARGE_BYTES", 10_000)
    monkeypatch.setattr("nanochat.data.tokens.prepare.SPAN_BYTES", 5_000)
    folder = tmp_path / "large"
    folder.mkdir()
    write_parquet(folder / "a.parquet", sentences(200, 1), row_group_size=20)
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in sentences(200, 2)))
    (folder / "c.txt").write_text("a short one\n")
    return folder


def shards_of(folder: Path) -> StreamedShards:
    prepared = prepare(CorpusOptions(str(folder)), 300)
    assert isinstance(prepared.train, StreamedShards)
    return prepared.train


def one_epoch(stream: TokenStream) -> np.ndarray:
    size = 0
    while (segment := stream.segment_at(size)).epoch == 0:
        size = segment.end
    return stream.read(0, size)


def test_an_epoch_has_each_training_document_once(large: Path) -> None:
    shards = shards_of(large)
    corpus = shards.corpus
    assert isinstance(corpus, LargeCorpus)
    tokens = one_epoch(TokenStream(shards, seed=3))
    bos = shards.tokenizer.bos
    documents = np.split(tokens, np.flatnonzero(tokens == bos))[1:]
    texts = [shards.tokenizer.decode(d[1:].tolist()) for d in documents]
    assert sorted(texts) == sorted(corpus.documents(False))
    everything = [*sentences(200, 1), *sentences(200, 2), "a short one\n"]
    held_out = list(corpus.documents(True))
    assert held_out
    assert sorted([*texts, *held_out]) == sorted(everything)


def test_nothing_is_held_out_with_a_val_corpus(large: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("other text to be scored, again and again\n" * 1000)
    prepared = prepare(CorpusOptions(str(large), str(tmp_path / "other.txt")), 300)
    assert prepared.train is not None
    tokens = one_epoch(TokenStream(prepared.train, seed=0))
    assert (tokens == prepared.tokenizer.bos).sum() == 401
    assert prepared.tokenizer.decode(prepared.val.tokens[1:20].tolist()).startswith("other text")


def test_seeds_and_epochs_differ_in_order(large: Path) -> None:
    shards = shards_of(large)
    epochs = [one_epoch(TokenStream(shards, seed)) for seed in (0, 1)]
    assert len(epochs[0]) == len(epochs[1])
    assert (epochs[0] != epochs[1]).any()
    stream = TokenStream(shards, 0)
    assert (stream.read(len(epochs[0]), len(epochs[0])) != epochs[0]).any()


@pytest.mark.parametrize("damage", ["train.tokens", "train.json", "spans.json"])
def test_a_damaged_shard_is_made_again(damage: str, large: Path) -> None:
    shards = shards_of(large)
    before = one_epoch(TokenStream(shards, 0))
    for path in shards.folder.rglob(damage):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    assert (one_epoch(TokenStream(shards, 0)) == before).all()


def batches(data: TextDataModule, count: int) -> list[torch.Tensor]:
    data.prepare_data()
    data.setup("fit")
    try:
        return [torch.stack(batch) for batch, _ in zip(data.train_dataloader(), range(count), strict=False)]
    finally:
        data.teardown("fit")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_prefetching_does_not_change_the_rows(num_workers: int, large: Path, cache: Path) -> None:
    def data(workers: int) -> TextDataModule:
        return TextDataModule(str(large), vocab_size=300, context=64, batch_size=4, num_workers=workers, seed=1)

    count = 30
    prefetched = batches(data(num_workers), count)
    plain = TokenStream(shards_of(large), 1).read(0, count * 4 * 65).reshape(count, 4, 65)
    assert (torch.stack(prefetched)[:, 0].numpy() == plain[:, :, :-1]).all()
    assert (torch.stack(prefetched)[:, 1].numpy() == plain[:, :, 1:]).all()


def test_only_needed_shards_are_made(large: Path) -> None:
    shards = shards_of(large)
    first = TokenStream(shards, 0).segment_at(0)
    prefetcher = Prefetcher(shards, 0)
    prefetcher.set_position(0, first.shard, tokens_left=10)
    time.sleep(3)
    prefetcher.close()
    assert len(made(shards)) == 1  # the one that is being read
    assert "fetch" not in [kind for kind, _ in prefetcher._requested]
    prefetcher = Prefetcher(shards, 0)
    prefetcher.set_position(0, first.shard, tokens_left=10**9)
    wait_for(lambda: len(made(shards)) >= 3)
    time.sleep(1)
    prefetcher.close()
    assert 3 <= len(made(shards)) < 8
    assert sum(len(shards.spans(shard)) for shard in range(len(shards.corpus.shards))) > 10


def wait_for(condition: Callable[[], bool], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def made(shards: StreamedShards) -> list[Path]:
    """Folders of the finished shards."""
    folders = [shards.folder / shard.key for shard in shards.corpus.shards]
    return [path for folder in folders for path in folder.glob("[0-9]*") if path.is_dir()]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_file_damaged_during_training_raises(num_workers: int, large: Path) -> None:
    data = TextDataModule(str(large), vocab_size=300, context=64, batch_size=4, num_workers=num_workers, seed=1)
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    (large / "a.parquet").write_bytes((large / "a.parquet").read_bytes()[:-100])
    try:
        with pytest.raises(ValueError, match="^[^\n]*a.parquet is damaged or is not a parquet file[^\n]*$"):
            list(itertools.islice(loader, 400))
    finally:
        data.teardown("fit")


def test_a_killed_process_raises(large: Path) -> None:
    shards = shards_of(large)
    first = TokenStream(shards, 0).segment_at(0)
    prefetcher = Prefetcher(shards, 0)
    os.kill(prefetcher._processes[1].pid or 0, 9)
    prefetcher.set_position(0, first.shard, 10**9)
    stream = TokenStream(replace(shards, when_missing="wait"), 0)
    try:
        with pytest.raises(ValueError, match="a process that prepares the text ended .exit code -9."):
            one_epoch(stream)
    finally:
        prefetcher.close()


def test_small_files_are_grouped_into_text_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanochat.data.corpus.corpora.LARGE_BYTES", 1000)
    for n in range(300):
        (tmp_path / f"{n}.txt").write_text(f"text number {n}")
    corpus = open_corpus(str(tmp_path))
    assert isinstance(corpus, LargeCorpus)
    assert len(corpus.shards) == 1
    assert len([*corpus.documents(False), *corpus.documents(True)]) == 300
