"""A damaged cache is detected and made again, so the data stays the same."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import sentences
from tests.data.corpus.test_documents import write_parquet
from tests.fuzzing import ReaderProcess, corruptions, report

quick_and_slow = pytest.mark.parametrize(
    "share", [pytest.param(0.1, id="quick"), pytest.param(1.0, marks=pytest.mark.slow, id="slow")]
)


@pytest.fixture(scope="module")
def reader() -> Iterator[ReaderProcess]:
    process = ReaderProcess()
    yield process
    process.close()


def prepared_corpus(folder: Path, cache: Path, large: bool) -> list[object]:
    """Prepares a corpus, and returns checksums of everything that a run reads of it."""
    from nanochat.data.corpus import corpora
    from nanochat.data.tokens import prepare
    from nanochat.data.tokens.token_stream import TokenStream

    logging.disable()
    os.environ["NANOCHAT_CACHE"] = str(cache)
    corpora.LARGE_BYTES = 1_000 if large else 10**9
    prepare.SPAN_BYTES = prepare.SHARD_BYTES = 5_000
    prepared = prepare.prepare(prepare.CorpusOptions(str(folder)), 300)
    assert prepared.train is not None
    stream, size = TokenStream(prepared.train, seed=1), 0
    while (segment := stream.segment_at(size)).epoch == 0:
        size = segment.end
    tokens = (stream.read(0, size), prepared.val.tokens, prepared.val.starts)
    return [prepared.fingerprint, prepared.extent, prepared.tokenizer.fingerprint, *(checksum(t) for t in tokens)]


def checksum(values: Any) -> tuple[int, int]:
    return len(values), zlib.crc32(values.tobytes())


def embedded(cache: Path) -> list[str]:
    """The documents of the embedded corpus, with a scan that finds the same few documents each time."""
    from nanochat.data.corpus import embedded
    from nanochat.data.corpus.docstrings import DocEntry
    from nanochat.data.corpus.documents import read_documents

    logging.disable()
    os.environ["NANOCHAT_CACHE"] = str(cache)
    embedded.scan = lambda: (DocEntry(f"name{n}", "", t) for n, t in enumerate(sentences(30)))
    return list(read_documents(embedded.embedded_corpus() / "documents.jsonl"))


def listing(cache: Path) -> tuple[Any, ...]:
    """The list of files of a corpus on the hub."""
    from nanochat.data.corpus import hub

    os.environ["NANOCHAT_CACHE"] = str(cache)
    files = tuple(hub.HubFile(f"{n}.parquet", 1000 + n, "0123456789abcdef" * 4) for n in range(4))
    found = hub.Listing("owner/name", "fedcba9876543210" * 2, files[:3], files[3:])
    hub._request = lambda address, split: found
    return tuple(hub.list_corpus(hub.Address("owner/name"), "train"))


def damage_everything(
    reader: ReaderProcess, tmp_path: Path, count: float, read: Callable[..., Any], *arguments: Any
) -> None:
    """Damages each file of a cache in many ways, and checks that the data read stays the same.

    Args:
        reader: the process that reads.
        tmp_path: an empty folder.
        count: number of damaged versions, of all files together.
        read: reads the data. It gets ``arguments``, with "cache" replaced by the folder of the cache.
    """
    whole, cache = tmp_path / "whole", tmp_path / "cache"
    before = reader("nothing", read, *(whole if a == "cache" else a for a in arguments))
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.stat().st_size)
    counts, started = Counter[str](), time.monotonic()
    for number, name in enumerate(files):
        share = int(count * (number + 1) / len(files)) - int(count * number / len(files))
        for damaged in corruptions((whole / name).read_bytes(), share, seed=number):
            shutil.rmtree(cache, ignore_errors=True)
            shutil.copytree(whole, cache)
            (cache / name).write_bytes(damaged.content)
            damage = f"{name}, {damaged.how}"
            after = reader(damage, read, *(cache if a == "cache" else a for a in arguments))
            assert after == before, damage
            counts[name.suffix] += 1
    report(read.__name__, counts, started)


@quick_and_slow
@pytest.mark.parametrize("large", [False, True])
def test_token_files_tokenizer_and_survey(large: bool, share: float, tmp_path: Path, reader: ReaderProcess) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_parquet(folder / "a.parquet", sentences(40, 1), row_group_size=20)
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in [*sentences(40, 2), ""]))
    damage_everything(reader, tmp_path, 300 * share, prepared_corpus, folder, "cache", large)


@quick_and_slow
def test_embedded_corpus(share: float, tmp_path: Path, reader: ReaderProcess) -> None:
    damage_everything(reader, tmp_path, 100 * share, embedded, "cache")


@quick_and_slow
def test_hub_listing(share: float, tmp_path: Path, reader: ReaderProcess) -> None:
    damage_everything(reader, tmp_path, 60 * share, listing, "cache")
