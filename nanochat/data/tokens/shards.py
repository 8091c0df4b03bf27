"""The pieces of a corpus that training reads one after the other, each a token file of some millions of tokens.

Only a piece or two are open at a time, so memory does not grow with the corpus. In a small corpus each piece is a fair
sample of the whole; in a large one it is a stretch of a file, made into tokens when training comes near it.
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
from nanochat.data.corpus.bad_records import LeftOut
from nanochat.data.corpus.corpora import LargeCorpus, shard_spans
from nanochat.data.corpus.documents import SPAN_BYTES, Span, read_documents
from nanochat.data.corpus.survey import document_hash
from nanochat.data.tokens.shuffle import shuffled
from nanochat.data.tokens.token_files import TokenFile, TokenWriter, read_facts, tokenize
from nanochat.tokenizer import Tokenizer

log = logging.getLogger(__name__)

TRAIN = "train"
POLL_SECONDS = 0.02
SAY_SECONDS = 5.0  # a wait longer than this is said

T = TypeVar("T")
Piece = tuple[int, int]  # shard and span, or 0 and the number of the piece


class Pieces(Protocol):
    """The pieces of a corpus, in an order that depends on the seed and the epoch."""

    def after(self, seed: int, epoch: int, piece: Piece | None) -> Piece | None:
        """The next piece of the epoch, the first one after None; None at the end of the epoch."""

    def size(self, piece: Piece) -> int:
        """Tokens in a piece."""

    def open(self, piece: Piece) -> TokenFile:
        """The piece itself."""

    @property
    def tokens(self) -> int | None:
        """Tokens in all pieces; None if that is not known yet."""


@dataclass(frozen=True)
class StoredPieces:
    """A small corpus: all of its pieces lie in one folder.

    Attributes:
        folder: where they are.
        sizes: tokens of each.
        documents: number of documents in all of them.
    """

    folder: Path
    sizes: tuple[int, ...]
    documents: int

    @classmethod
    def open_folder(cls, folder: Path) -> StoredPieces:
        """What :func:`write_pieces` wrote; every piece is checked.

        Raises:
            OSError, ValueError: if it is not there, or damaged.
        """
        sizes, documents = [], 0
        for number in range(read_facts(folder, f"{TRAIN}-0")["pieces"]):
            file = TokenFile.open(folder, f"{TRAIN}-{number}")  # one at a time: what is mapped counts as memory
            sizes.append(len(file.tokens))
            documents += file.documents
        return cls(folder, tuple(sizes), documents)

    @property
    def tokens(self) -> int:
        return sum(self.sizes)

    def after(self, seed: int, epoch: int, piece: Piece | None) -> Piece | None:
        order = shuffled(len(self.sizes), seed, epoch).tolist()
        place = 0 if piece is None else order.index(piece[1]) + 1
        return (0, order[place]) if place < len(order) else None

    def size(self, piece: Piece) -> int:
        return self.sizes[piece[1]]

    def open(self, piece: Piece) -> TokenFile:
        return TokenFile.open(self.folder, f"{TRAIN}-{piece[1]}")


@dataclass(frozen=True)
class StreamedPieces:
    """A large corpus: a piece is a span of a shard, and is made when it is needed, or before (see ``ahead``).

    Attributes:
        corpus: where the text is.
        tokenizer: what turns it into tokens.
        folder: where the pieces are kept.
        span_bytes: of text in a piece, about.
        when_missing: what happens to a piece that is not there: this process makes it, or waits for the process that
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

    def after(self, seed: int, epoch: int, piece: Piece | None) -> Piece | None:
        order = self.shard_order(seed, epoch)
        if piece is not None:
            spans = self.span_order(seed, epoch, piece[0])
            place = spans.index(piece[1]) + 1
            if place < len(spans):
                return piece[0], spans[place]
            order = order[order.index(piece[0]) + 1 :]
        for shard in order:
            if spans := self.span_order(seed, epoch, shard):
                return shard, spans[0]
        return None

    def shard_order(self, seed: int, epoch: int) -> list[int]:
        """Numbers of the shards in the order of the epoch."""
        count = len(self.corpus.shards)
        return list(range(count)) if self.corpus.in_order else shuffled(count, seed, epoch).tolist()

    def span_order(self, seed: int, epoch: int, shard: int) -> list[int]:
        """Numbers of a shard's spans in the order of the epoch."""
        return shuffled(len(self.spans(shard)), seed, epoch, shard).tolist()

    def size(self, piece: Piece) -> int:
        return int(self._read(piece, lambda folder: read_facts(folder, TRAIN))["tokens"])

    def open(self, piece: Piece) -> TokenFile:
        return self._read(piece, lambda folder: TokenFile.open(folder, TRAIN))

    def _read(self, piece: Piece, read: Callable[[Path], T]) -> T:
        """Reads something of a piece, which is made again if it turns out to be damaged."""
        folder = self.piece_folder(piece)
        self._get_ready(piece[0], folder, lambda: self.make_piece(piece))
        try:
            return read(folder)
        except (OSError, ValueError, KeyError) as error:
            log.warning("The token cache %s is damaged (%s): made again from its text.", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
            self.make_piece(piece)
            return read(folder)

    def spans(self, shard: int) -> list[Span]:
        """The spans of a shard."""
        path = self.spans_path(shard)
        self._get_ready(shard, path, lambda: self.make_spans(shard))
        try:
            spans = read_checked(path)
        except (OSError, ValueError) as error:  # damaged, or just taken away by another process that found it so
            log.warning("%s: made again.", error)
            path.unlink(missing_ok=True)
            self.make_spans(shard)
            spans = read_checked(path)
        return [Span(Path(file), begin, end) for file, begin, end in spans]

    def forget_errors(self) -> None:
        """What failed in an earlier run may be possible now."""
        for pattern in ("*/*.error", "*.error"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------- making them

    def spans_path(self, shard: int) -> Path:
        return self.folder / self.corpus.shards[shard].key / "spans.json"

    def piece_folder(self, piece: Piece) -> Path:
        return self.folder / self.corpus.shards[piece[0]].key / str(piece[1])

    def make_spans(self, shard: int) -> None:
        """Fetches a shard and cuts it into spans, unless that is done."""
        path = self.spans_path(shard)
        if not path.is_file():
            spans = shard_spans(self.corpus.shards[shard], self.corpus.column, self.span_bytes)
            write_checked(path, [(str(span.path), span.begin, span.end) for span in spans])

    def make_piece(self, piece: Piece, threads: int | None = None) -> None:
        """Turns a span into tokens, unless that is done."""
        folder = self.piece_folder(piece)
        if folder.is_dir():
            return
        self.make_spans(piece[0])
        span = self.spans(piece[0])[piece[1]]
        if not span.path.is_file():  # the hub's cache was emptied since
            (path,) = self.corpus.shards[piece[0]].fetch()
            span = span._replace(path=path)
        left_out = LeftOut()
        texts = read_documents(span, self.corpus.column, left_out)
        threshold = self.corpus.threshold
        kept = (text for text in texts if document_hash(text) >= threshold)
        with atomic_folder(folder) as work:
            writer = TokenWriter(work, TRAIN, self.tokenizer)
            for batch in tokenize(kept, self.tokenizer, threads):
                writer.write(batch)
            writer.close(left_out=left_out.total, left_out_lines=left_out.lines())
        for line in left_out.lines():
            log.warning("%s", line)

    def _get_ready(self, shard: int, path: Path, make: Callable[[], None]) -> None:
        """Waits for a file or folder that another process makes, or makes it."""
        if self.when_missing == "make":
            make()
            return
        started, said = time.monotonic(), False
        while not path.exists():
            if self.when_missing == "raise":
                raise NotReady(shard)
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
    """A shard is not here yet, or a piece of it not yet made."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"shard {shard} is not ready")
        self.shard = shard


def error_path(path: Path) -> Path:
    """Where it is written down why a file or folder could not be made."""
    return path.with_name(f"{path.name}.error")


def error_of(path: Path) -> str | None:
    """Why a file or folder could not be made; None if nothing went wrong so far."""
    try:
        return error_path(path).read_text(encoding="utf-8")
    except OSError:
        return None
