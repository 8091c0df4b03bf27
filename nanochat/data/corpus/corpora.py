"""A corpus: documents to train on, and others held out. A small one is read whole; a large one while training runs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nanochat.cache import short_hash
from nanochat.data.corpus.documents import SPAN_BYTES, Span, find_files, read_documents, spans
from nanochat.data.corpus.embedded import embedded_corpus
from nanochat.data.corpus.hub import list_corpus, parse_address
from nanochat.data.corpus.hub_files import HubShard
from nanochat.data.corpus.survey import THRESHOLD, Survey, document_hash, file_stamp, survey_of

log = logging.getLogger(__name__)

EMBEDDED = "embedded"
LARGE_BYTES = 128_000_000  # files of more than this are not read whole before the first step
LARGE_HELD_OUT = 32_000_000  # characters of a large corpus' validation split that are used
LARGE_SEARCHED = 256_000_000  # characters of a large corpus that are searched for held-out documents


@dataclass(frozen=True)
class Corpus:
    """Documents in files that are read whole, and which of them are held out.

    A document is held out if the hash of its text is small. So the split depends on nothing but the document, and
    two copies of one text never end up on both sides.

    Attributes:
        name: for the plan and the summary.
        column: the column or field that holds the text.
        files: where the documents are, in this order.
        survey: what is known of them.
    """

    name: str
    column: str
    files: tuple[Path, ...]
    survey: Survey

    @property
    def fingerprint(self) -> str:
        return self.survey.fingerprint

    def documents(self, held_out: bool | None = None) -> Iterator[str]:
        """Those to train on (False), those held out (True), or all (None), in their order."""
        for file in self.files:
            for text in read_documents(file, self.column):
                if held_out is None or (document_hash(text) < self.survey.threshold) == held_out:
                    yield text


@dataclass(frozen=True)
class LocalShard:
    """Files on this machine that are read together: a large one, or several small ones.

    Attributes:
        paths: the files.
        key: a short hash of their names, sizes and times.
    """

    paths: tuple[Path, ...]
    key: str

    @property
    def name(self) -> str:
        return str(self.paths[0])

    def fetch(self) -> tuple[Path, ...]:
        return self.paths

    def local(self) -> Path | None:
        return self.paths[0]


Shard = LocalShard | HubShard


@dataclass(frozen=True)
class LargeCorpus:
    """Documents in shards, each of them read when training comes near it.

    Held out are the files that the corpus says are, or else documents by their hash, as in a small corpus; of both
    only as many as a score needs.

    Attributes:
        name: for the plan and the summary.
        column: the column or field that holds the text.
        shards: to train on, in this order.
        held_out_shards: held out; empty where documents are held out by their hash.
        fingerprint: a short hash of the names and the sizes of all files, or of their commit on the hub.
        in_order: whether the shards are read in their order: each is fetched only when its turn comes.
        splits: whether a part is held out; not where the user gives other text for that.
    """

    name: str
    column: str
    shards: tuple[Shard, ...]
    held_out_shards: tuple[Shard, ...]
    fingerprint: str
    in_order: bool
    splits: bool = True

    @property
    def threshold(self) -> int:
        """Documents whose hash lies below it are not trained on."""
        return THRESHOLD if self.splits and not self.held_out_shards else 0

    def documents(self, held_out: bool | None = None) -> Iterator[str]:
        """Those to train on (False), a bounded number of those held out (True), or the first of all (None)."""
        if held_out and self.held_out_shards:
            return first_characters(self._read(self.held_out_shards), LARGE_HELD_OUT)
        if held_out is None:
            return first_characters(self._read(self.shards), LARGE_HELD_OUT)
        texts = first_characters(self._read(self.shards), LARGE_SEARCHED) if held_out else self._read(self.shards)
        return (text for text in texts if (document_hash(text) < self.threshold) == held_out)

    def _read(self, shards: Iterable[Shard]) -> Iterator[str]:
        for shard in shards:
            for span in shard_spans(shard, self.column):
                yield from read_documents(span, self.column)


def shard_spans(shard: Shard, column: str, span_bytes: int = SPAN_BYTES) -> list[Span]:
    """The spans of a shard, which is fetched first if it is not here."""
    if shard.local() is None:
        log.info("Fetching %s ...", shard.name)
    return [span for path in shard.fetch() for span in spans(path, column, span_bytes)]


def first_characters(texts: Iterable[str], characters: int) -> Iterator[str]:
    """Texts until they have that many characters in all, the one that reaches them included."""
    total = 0
    for text in texts:
        yield text
        total += len(text)
        if total >= characters:
            return


def open_corpus(
    source: str, column: str = "text", split: str = "train", max_shards: int | None = None, to_score: bool = False
) -> Corpus | LargeCorpus:
    """Finds a corpus; a small one is surveyed, unless that was done before and the files are as they were.

    Args:
        source: "embedded", the path of a file or a folder, or a corpus on the hub.
        column: the column or field that holds the text.
        split: of a corpus on the hub.
        max_shards: of a corpus on the hub, no more than its first so many.
        to_score: whether the corpus is only to be scored: of one on the hub, its held-out files if it has any.

    Raises:
        ValueError: if there is no such corpus, or it holds no documents.
    """
    address = parse_address(source)
    if address is not None:
        listing = list_corpus(address, split)
        shards = [listing.shard(file) for file in listing.train]
        held_out = [listing.shard(file) for file in listing.held_out[:1]]
        if to_score and held_out:
            shards = held_out
        fingerprint = short_hash([listing.repository, listing.commit, [file.name for file in listing.train]])
        return LargeCorpus(source, column, tuple(shards[:max_shards]), tuple(held_out), fingerprint, in_order=True)
    files = find_files(embedded_corpus() if source == EMBEDDED else Path(source).expanduser())
    sizes = [file.stat().st_size for file in files]
    if sum(sizes) > LARGE_BYTES:
        names = [file.name for file in files]
        return LargeCorpus(source, column, tuple(_group(files, sizes)), (), short_hash([names, sizes]), in_order=False)
    return Corpus(source, column, tuple(files), survey_of(source, column, files))


def _group(files: list[Path], sizes: list[int], shard_bytes: int = 16_000_000) -> Iterator[LocalShard]:
    """Small files in shards of 16 MB, so that a hundred thousand files are not a hundred thousand shards."""
    group: list[Path] = []
    total = 0
    for file, size in zip(files, sizes, strict=True):
        if group and total + size > shard_bytes:
            yield LocalShard(tuple(group), short_hash(list(map(file_stamp, group))))
            group, total = [], 0
        group.append(file)
        total += size
    yield LocalShard(tuple(group), short_hash(list(map(file_stamp, group))))
