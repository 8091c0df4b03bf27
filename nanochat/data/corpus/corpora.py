"""A corpus: documents to train on and held-out ones. A small corpus is read before training, a large one during it."""

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
LARGE_BYTES = 128_000_000  # a corpus with more bytes is large
LARGE_HELD_OUT = 32_000_000  # characters used of a large corpus's held-out files
LARGE_SEARCHED = 256_000_000  # characters of a large corpus that are searched for held-out documents
TEXT_SHARD_BYTES = 16_000_000  # small files of a large corpus are grouped into text shards of this size


@dataclass(frozen=True)
class Corpus:
    """A small corpus: documents in files, and the split into training and held-out documents.

    A document is held out if the hash of its text is below a threshold. So the split depends only on the document, and
    copies of a text are on the same side of the split.

    Attributes:
        name: shown in the plan and the summary.
        column: the column or field that holds the text.
        files: the files, in the order in which they are read.
        survey: size, fingerprint and threshold.
    """

    name: str
    column: str
    files: tuple[Path, ...]
    survey: Survey

    @property
    def fingerprint(self) -> str:
        return self.survey.fingerprint

    def documents(self, held_out: bool | None = None) -> Iterator[str]:
        """The documents to train on (False), the held-out ones (True), or all (None), in their order."""
        for file in self.files:
            for text in read_documents(file, self.column):
                if held_out is None or (document_hash(text) < self.survey.threshold) == held_out:
                    yield text


@dataclass(frozen=True)
class LocalShard:
    """A text shard on this machine: one large file, or several small ones.

    Attributes:
        paths: the files.
        key: short hash of their names, sizes and times.
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


TextShard = LocalShard | HubShard


@dataclass(frozen=True)
class LargeCorpus:
    """A large corpus: documents in text shards, which are read during training.

    If the corpus has a validation split, its first file is held out; else documents are held out by their hash, as in a
    small corpus. Of both only a bounded number is used.

    Attributes:
        name: shown in the plan and the summary.
        column: the column or field that holds the text.
        shards: the text shards to train on.
        held_out_shards: the held-out text shards; empty where documents are held out by their hash.
        fingerprint: short hash of the names and sizes of all files, or of their commit on the hub.
        in_order: whether shards are read in this order, rather than shuffled: each can then be fetched when needed.
        splits: whether a part is held out. False where the user gives held-out text.
    """

    name: str
    column: str
    shards: tuple[TextShard, ...]
    held_out_shards: tuple[TextShard, ...]
    fingerprint: str
    in_order: bool
    splits: bool = True

    @property
    def threshold(self) -> int:
        """Documents with a hash below it are not trained on."""
        return THRESHOLD if self.splits and not self.held_out_shards else 0

    def documents(self, held_out: bool | None = None) -> Iterator[str]:
        """The documents to train on (False), a bounded number of held-out ones (True), or the first of all (None)."""
        if held_out and self.held_out_shards:
            return first_characters(self._read(self.held_out_shards), LARGE_HELD_OUT)
        if held_out is None:
            return first_characters(self._read(self.shards), LARGE_HELD_OUT)
        texts = first_characters(self._read(self.shards), LARGE_SEARCHED) if held_out else self._read(self.shards)
        return (text for text in texts if (document_hash(text) < self.threshold) == held_out)

    def _read(self, shards: Iterable[TextShard]) -> Iterator[str]:
        for shard in shards:
            for span in shard_spans(shard, self.column):
                yield from read_documents(span, self.column)


def shard_spans(shard: TextShard, column: str, span_bytes: int = SPAN_BYTES) -> list[Span]:
    """The spans of a text shard, which is fetched first if it is missing."""
    if shard.local() is None:
        log.info("Fetching %s ...", shard.name)
    return [span for path in shard.fetch() for span in spans(path, column, span_bytes)]


def first_characters(texts: Iterable[str], characters: int) -> Iterator[str]:
    """The first texts, up to and including the one that reaches this number of characters in total."""
    total = 0
    for text in texts:
        yield text
        total += len(text)
        if total >= characters:
            return


def open_corpus(
    source: str, column: str = "text", split: str = "train", max_shards: int | None = None, to_score: bool = False
) -> Corpus | LargeCorpus:
    """Finds a corpus. A small one is surveyed, unless the survey is cached.

    Args:
        source: "embedded", the path of a file or a folder, or a corpus on the hub.
        column: the column or field that holds the text.
        split: of a corpus on the hub.
        max_shards: of a corpus on the hub: number of files to use, from the first; None for all.
        to_score: whether the corpus is used only for scoring: takes the held-out files of one on the hub, if any.

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


def _group(files: list[Path], sizes: list[int]) -> Iterator[LocalShard]:
    """Groups small files into text shards of 16 MB, so that many small files do not become many shards."""
    group: list[Path] = []
    total = 0
    for file, size in zip(files, sizes, strict=True):
        if group and total + size > TEXT_SHARD_BYTES:
            yield LocalShard(tuple(group), short_hash(list(map(file_stamp, group))))
            group, total = [], 0
        group.append(file)
        total += size
    yield LocalShard(tuple(group), short_hash(list(map(file_stamp, group))))
