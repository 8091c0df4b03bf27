"""The token shards of a corpus: token files of some millions of tokens, which training reads one after the other.

Only one or two shards are open at a time, so memory does not grow with the corpus. In a small corpus each shard is a
uniform sample of the documents. In a large one it is a span of a text shard (a file of the corpus), tokenized shortly
before training needs it.
"""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from nanochat.cache import atomic_folder, read_checked, write_checked
from nanochat.data.corpus.bad_records import BadRecords
from nanochat.data.corpus.corpora import LargeCorpus, shard_spans
from nanochat.data.corpus.documents import SPAN_BYTES, Span, read_documents
from nanochat.data.corpus.survey import document_hash
from nanochat.data.tokens.shuffle import shuffled
from nanochat.data.tokens.token_files import TokenFile, TokenWriter, read_metadata, tokenize
from nanochat.tokenizer import Tokenizer

log = logging.getLogger(__name__)

TRAIN = "train"
SHARD_COUNT = "pieces"  # the key in the metadata of token files
POLL_SECONDS = 0.02
NOTICE_SECONDS = 5.0  # a longer wait is logged

T = TypeVar("T")
ShardId = tuple[int, int]  # numbers of the text shard and of the span in it; of a small corpus 0 and the shard's number


class TokenShards(Protocol):
    """The shards of a corpus, in an order that depends on the seed and the epoch."""

    def after(self, seed: int, epoch: int, shard: ShardId | None) -> ShardId | None:
        """The next shard of the epoch: the first one after None, and None after the last one."""

    def size(self, shard: ShardId) -> int:
        """Tokens in a shard."""

    def open(self, shard: ShardId) -> TokenFile:
        """Opens the token file of a shard."""

    @property
    def tokens(self) -> int | None:
        """Tokens in all shards; None if that is not known yet."""


@dataclass(frozen=True)
class StoredShards:
    """The shards of a small corpus, all of them in one folder.

    Attributes:
        folder: the folder.
        sizes: tokens of each shard.
        documents: number of documents in all shards.
    """

    folder: Path
    sizes: tuple[int, ...]
    documents: int

    @classmethod
    def open_folder(cls, folder: Path) -> StoredShards:
        """Opens what :func:`~nanochat.data.tokens.prepare.write_shards` wrote, and verifies every shard.

        Raises:
            OSError, ValueError: if the folder is missing or damaged.
        """
        sizes, documents = [], 0
        for number in range(read_metadata(folder, f"{TRAIN}-0")[SHARD_COUNT]):
            file = TokenFile.open(folder, f"{TRAIN}-{number}")  # one at a time: mapped pages count as memory
            sizes.append(len(file.tokens))
            documents += file.documents
        return cls(folder, tuple(sizes), documents)

    @property
    def tokens(self) -> int:
        return sum(self.sizes)

    def after(self, seed: int, epoch: int, shard: ShardId | None) -> ShardId | None:
        order = shuffled(len(self.sizes), seed, epoch).tolist()
        index = 0 if shard is None else order.index(shard[1]) + 1
        return (0, order[index]) if index < len(order) else None

    def size(self, shard: ShardId) -> int:
        return self.sizes[shard[1]]

    def open(self, shard: ShardId) -> TokenFile:
        return TokenFile.open(self.folder, f"{TRAIN}-{shard[1]}")


@dataclass(frozen=True)
class StreamedShards:
    """The shards of a large corpus: each is a span of a text shard, tokenized on demand or ahead (see ``prefetch``).

    Attributes:
        corpus: the text.
        tokenizer: the tokenizer.
        folder: where the shards are cached.
        span_bytes: approximate bytes of text in a shard.
        when_missing: what to do if a shard is not in the cache: make it in this process, wait for the process that
            makes it, or raise :class:`NotReady`.
    """

    corpus: LargeCorpus
    tokenizer: Tokenizer
    folder: Path
    span_bytes: int = SPAN_BYTES
    when_missing: Literal["make", "wait", "raise"] = "make"

    @property
    def tokens(self) -> int | None:
        return None

    def after(self, seed: int, epoch: int, shard: ShardId | None) -> ShardId | None:
        order = self.text_shard_order(seed, epoch)
        if shard is not None:
            spans = self.span_order(seed, epoch, shard[0])
            index = spans.index(shard[1]) + 1
            if index < len(spans):
                return shard[0], spans[index]
            order = order[order.index(shard[0]) + 1 :]
        for text_shard in order:
            if spans := self.span_order(seed, epoch, text_shard):
                return text_shard, spans[0]
        return None

    def text_shard_order(self, seed: int, epoch: int) -> list[int]:
        """Numbers of the text shards in the order of the epoch."""
        count = len(self.corpus.shards)
        return list(range(count)) if self.corpus.in_order else shuffled(count, seed, epoch).tolist()

    def span_order(self, seed: int, epoch: int, text_shard: int) -> list[int]:
        """Numbers of a text shard's spans in the order of the epoch."""
        return shuffled(len(self.spans(text_shard)), seed, epoch, text_shard).tolist()

    def size(self, shard: ShardId) -> int:
        return int(self._read(shard, lambda folder: read_metadata(folder, TRAIN))["tokens"])

    def open(self, shard: ShardId) -> TokenFile:
        return self._read(shard, lambda folder: TokenFile.open(folder, TRAIN))

    def _read(self, shard: ShardId, read: Callable[[Path], T]) -> T:
        """Reads from a shard's folder. A damaged shard is made again."""
        folder = self.shard_folder(shard)
        self._ensure(shard[0], folder, lambda: self.make_shard(shard))
        try:
            return read(folder)
        except (OSError, ValueError, KeyError) as error:
            log.warning("The token cache %s is damaged (%s): tokenizing its text again.", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
            self.make_shard(shard)
            return read(folder)

    def spans(self, text_shard: int) -> list[Span]:
        """The spans of a text shard."""
        path = self.spans_path(text_shard)
        self._ensure(text_shard, path, lambda: self.make_spans(text_shard))
        try:
            spans = read_checked(path)
        except (OSError, ValueError) as error:  # damaged, or just removed by another process that found it damaged
            log.warning("%s: making it again.", error)
            path.unlink(missing_ok=True)
            self.make_spans(text_shard)
            spans = read_checked(path)
        return [Span(Path(file), begin, end) for file, begin, end in spans]

    def clear_errors(self) -> None:
        """Removes the errors of earlier runs, so that failed tasks are tried again."""
        for pattern in ("*/*.error", "*.error"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------- making them

    def spans_path(self, text_shard: int) -> Path:
        """The file with the spans of a text shard."""
        return self.folder / self.corpus.shards[text_shard].key / "spans.json"

    def shard_folder(self, shard: ShardId) -> Path:
        """The folder with the token file of a shard."""
        return self.folder / self.corpus.shards[shard[0]].key / str(shard[1])

    def make_spans(self, text_shard: int) -> None:
        """Fetches a text shard and cuts it into spans, unless that is done."""
        path = self.spans_path(text_shard)
        if not path.is_file():
            spans = shard_spans(self.corpus.shards[text_shard], self.corpus.column, self.span_bytes)
            write_checked(path, [(str(span.path), span.begin, span.end) for span in spans])

    def make_shard(self, shard: ShardId, threads: int | None = None) -> None:
        """Tokenizes a span, unless that is done.

        Args:
            shard: the span.
            threads: of the tokenizer; None takes one per core.
        """
        folder = self.shard_folder(shard)
        if folder.is_dir():
            return
        self.make_spans(shard[0])
        span = self.spans(shard[0])[shard[1]]
        if not span.path.is_file():  # the hub's cache was emptied since
            (path,) = self.corpus.shards[shard[0]].fetch()
            span = span._replace(path=path)
        bad_records = BadRecords()
        texts = read_documents(span, self.corpus.column, bad_records)
        threshold = self.corpus.threshold
        training = (text for text in texts if document_hash(text) >= threshold)
        with atomic_folder(folder) as work:
            writer = TokenWriter(work, TRAIN, self.tokenizer)
            for batch in tokenize(training, self.tokenizer, threads):
                writer.write(batch)
            writer.close(bad_records=bad_records.total, bad_record_lines=bad_records.lines())
        for line in bad_records.lines():
            log.warning("%s", line)

    def _ensure(self, text_shard: int, path: Path, make: Callable[[], None]) -> None:
        """Makes a file or folder, or waits for another process to make it."""
        if self.when_missing == "make":
            make()
            return
        started, logged = time.monotonic(), False
        while not path.exists():
            if self.when_missing == "raise":
                raise NotReady(text_shard)
            if (error := read_error(path)) is not None:
                raise ValueError(error)
            parent = multiprocessing.parent_process()
            if parent is not None and not parent.is_alive():
                raise SystemExit  # a worker whose training process was killed: the file will never be made
            if not logged and time.monotonic() - started > NOTICE_SECONDS:
                log.info("Waiting for more text (%s) ...", self.corpus.name)
                logged = True
            time.sleep(POLL_SECONDS)


class NotReady(Exception):
    """A text shard is not on this machine yet, or a span of it is not tokenized yet."""

    def __init__(self, text_shard: int) -> None:
        super().__init__(f"text shard {text_shard} is not ready")
        self.text_shard = text_shard


def error_path(path: Path) -> Path:
    """The file that holds the error if a file or folder could not be made."""
    return path.with_name(f"{path.name}.error")


def read_error(path: Path) -> str | None:
    """Why a file or folder could not be made; None if there was no error so far."""
    try:
        return error_path(path).read_text(encoding="utf-8")
    except OSError:
        return None
