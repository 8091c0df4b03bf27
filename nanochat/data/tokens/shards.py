"""The shards of a corpus that training reads one after the other, each a token file of some millions of tokens.

Only a shard or two are open at a time, so memory does not grow with the corpus. In a small corpus each shard is a fair
sample of the whole; in a large one it is a segment of a file, made into tokens when training comes near it.
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
POLL_SECONDS = 0.02
SAY_SECONDS = 5.0  # a wait longer than this is said

T = TypeVar("T")
ShardId = tuple[int, int]  # text shard and span, or 0 and the number of the shard


class TokenShards(Protocol):
    """The shards of a corpus, in an order that depends on the seed and the epoch."""

    def after(self, seed: int, epoch: int, shard: ShardId | None) -> ShardId | None:
        """The next shard of the epoch, the first one after None; None at the end of the epoch."""

    def size(self, shard: ShardId) -> int:
        """Tokens in a shard."""

    def open(self, shard: ShardId) -> TokenFile:
        """The shard itself."""

    @property
    def tokens(self) -> int | None:
        """Tokens in all shards; None if that is not known yet."""


@dataclass(frozen=True)
class StoredShards:
    """A small corpus: all of its shards lie in one folder.

    Attributes:
        folder: where they are.
        sizes: tokens of each.
        documents: number of documents in all of them.
    """

    folder: Path
    sizes: tuple[int, ...]
    documents: int

    @classmethod
    def open_folder(cls, folder: Path) -> StoredShards:
        """What :func:`write_shards` wrote; every shard is checked.

        Raises:
            OSError, ValueError: if it is not there, or damaged.
        """
        sizes, documents = [], 0
        for number in range(read_metadata(folder, f"{TRAIN}-0")["pieces"]):
            file = TokenFile.open(folder, f"{TRAIN}-{number}")  # one at a time: what is mapped counts as memory
            sizes.append(len(file.tokens))
            documents += file.documents
        return cls(folder, tuple(sizes), documents)

    @property
    def tokens(self) -> int:
        return sum(self.sizes)

    def after(self, seed: int, epoch: int, shard: ShardId | None) -> ShardId | None:
        order = shuffled(len(self.sizes), seed, epoch).tolist()
        place = 0 if shard is None else order.index(shard[1]) + 1
        return (0, order[place]) if place < len(order) else None

    def size(self, shard: ShardId) -> int:
        return self.sizes[shard[1]]

    def open(self, shard: ShardId) -> TokenFile:
        return TokenFile.open(self.folder, f"{TRAIN}-{shard[1]}")


@dataclass(frozen=True)
class StreamedShards:
    """A large corpus: a shard is a span of a text shard, and is made when it is needed, or before (see ``ahead``).

    Attributes:
        corpus: where the text is.
        tokenizer: what turns it into tokens.
        folder: where the shards are kept.
        span_bytes: of text in a shard, about.
        when_missing: what happens to a shard that is not there: this process makes it, or waits for the process that
            makes it, or raises :class:`NotReady`.
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
            place = spans.index(shard[1]) + 1
            if place < len(spans):
                return shard[0], spans[place]
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
        """Reads something of a shard, which is made again if it turns out to be damaged."""
        folder = self.shard_folder(shard)
        self._get_ready(shard[0], folder, lambda: self.make_shard(shard))
        try:
            return read(folder)
        except (OSError, ValueError, KeyError) as error:
            log.warning("The token cache %s is damaged (%s): made again from its text.", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
            self.make_shard(shard)
            return read(folder)

    def spans(self, text_shard: int) -> list[Span]:
        """The spans of a text shard."""
        path = self.spans_path(text_shard)
        self._get_ready(text_shard, path, lambda: self.make_spans(text_shard))
        try:
            spans = read_checked(path)
        except (OSError, ValueError) as error:  # damaged, or just taken away by another process that found it so
            log.warning("%s: made again.", error)
            path.unlink(missing_ok=True)
            self.make_spans(text_shard)
            spans = read_checked(path)
        return [Span(Path(file), begin, end) for file, begin, end in spans]

    def forget_errors(self) -> None:
        """What failed in an earlier run may be possible now."""
        for pattern in ("*/*.error", "*.error"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------- making them

    def spans_path(self, text_shard: int) -> Path:
        return self.folder / self.corpus.shards[text_shard].key / "spans.json"

    def shard_folder(self, shard: ShardId) -> Path:
        return self.folder / self.corpus.shards[shard[0]].key / str(shard[1])

    def make_spans(self, text_shard: int) -> None:
        """Fetches a text shard and cuts it into spans, unless that is done."""
        path = self.spans_path(text_shard)
        if not path.is_file():
            spans = shard_spans(self.corpus.shards[text_shard], self.corpus.column, self.span_bytes)
            write_checked(path, [(str(span.path), span.begin, span.end) for span in spans])

    def make_shard(self, shard: ShardId, threads: int | None = None) -> None:
        """Turns a span into tokens, unless that is done."""
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
        kept = (text for text in texts if document_hash(text) >= threshold)
        with atomic_folder(folder) as work:
            writer = TokenWriter(work, TRAIN, self.tokenizer)
            for batch in tokenize(kept, self.tokenizer, threads):
                writer.write(batch)
            writer.close(bad_records=bad_records.total, bad_record_lines=bad_records.lines())
        for line in bad_records.lines():
            log.warning("%s", line)

    def _get_ready(self, text_shard: int, path: Path, make: Callable[[], None]) -> None:
        """Waits for a file or folder that another process makes, or makes it."""
        if self.when_missing == "make":
            make()
            return
        started, said = time.monotonic(), False
        while not path.exists():
            if self.when_missing == "raise":
                raise NotReady(text_shard)
            if (error := error_of(path)) is not None:
                raise ValueError(error)
            parent = multiprocessing.parent_process()
            if parent is not None and not parent.is_alive():
                raise SystemExit  # a loader's worker whose training process was killed: nobody is going to make it
            if not said and time.monotonic() - started > SAY_SECONDS:
                log.info("Waiting for more text (%s) ...", self.corpus.name)
                said = True
            time.sleep(POLL_SECONDS)


class NotReady(Exception):
    """A text shard is not here yet, or a shard of it not yet made."""

    def __init__(self, text_shard: int) -> None:
        super().__init__(f"text shard {text_shard} is not ready")
        self.text_shard = text_shard


def error_path(path: Path) -> Path:
    """Where it is written down why a file or folder could not be made."""
    return path.with_name(f"{path.name}.error")


def error_of(path: Path) -> str | None:
    """Why a file or folder could not be made; None if nothing went wrong so far."""
    try:
        return error_path(path).read_text(encoding="utf-8")
    except OSError:
        return None
