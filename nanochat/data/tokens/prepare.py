"""Documents to token files: what is computed once for each corpus and vocabulary, and then cached."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import TypeVar

from nanochat.cache import atomic_folder, cache_root, read_checked, short_hash, write_checked
from nanochat.data.corpus.corpora import EMBEDDED, Corpus, LargeCorpus, first_characters, open_corpus
from nanochat.data.corpus.documents import SPAN_BYTES
from nanochat.data.tokens.held_out_rows import HeldOut
from nanochat.data.tokens.shards import SHARD_COUNT, TRAIN, StoredShards, StreamedShards, TokenShards
from nanochat.data.tokens.token_files import TokenFile, TokenWriter, tokenize
from nanochat.tokenizer import Tokenizer
from nanochat.wording import plural

log = logging.getLogger(__name__)

# Characters that a tokenizer is trained on, per token of its vocabulary, within these limits. More change few merges.
CHARACTERS_PER_TOKEN, MIN_CHARACTERS, MAX_CHARACTERS = 4_000, 8_000_000, 50_000_000
SHARD_BYTES = 16_000_000  # approximate bytes of text in a shard of a small corpus
HELD_OUT = "val"
Opened = TypeVar("Opened")


@dataclass(frozen=True)
class CorpusOptions:
    """The options that select the text.

    Attributes:
        corpus: "embedded", the path of a file or a folder, or a corpus on the hub.
        val_corpus: the held-out text; None to hold out a part of the corpus.
        column: the column or field that holds the text.
        split: of a corpus on the hub.
        max_shards: of a corpus on the hub: number of its files to use, from the first; None for all.
    """

    corpus: str
    val_corpus: str | None = None
    column: str = "text"
    split: str = "train"
    max_shards: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A corpus with its tokenizer and its token files.

    Attributes:
        corpus: the text to train on, and to hold out a part of unless there is a ``val_corpus``.
        val_corpus: the held-out text, if the user gave it.
        tokenizer: the tokenizer.
        train: the tokens to train on; None if they were not requested.
        val: the held-out tokens.
    """

    corpus: Corpus | LargeCorpus
    val_corpus: Corpus | LargeCorpus | None
    tokenizer: Tokenizer
    train: TokenShards | None
    val: TokenFile

    @property
    def fingerprint(self) -> str:
        """Hash of the text: runs with the same fingerprint were trained and scored on the same documents."""
        own = self.corpus.fingerprint
        return own if self.val_corpus is None else f"{own}+{self.val_corpus.fingerprint}"

    @property
    def extent(self) -> str:
        """Size of the corpus, in words."""
        if isinstance(self.corpus, LargeCorpus):
            return plural(len(self.corpus.shards), "file")
        survey = self.corpus.survey
        bad = f", {plural(survey.bad_records, 'bad record')} left out" if survey.bad_records else ""
        return f"{plural(survey.documents, 'document')}, {survey.bytes / 1e6:,.1f} MB{bad}"


def prepare(
    options: CorpusOptions, vocab_size: int, tokenizer: Tokenizer | None = None, train: bool = True
) -> Prepared:
    """Finds the corpus, trains the tokenizer and tokenizes; each result is cached.

    Of a large corpus only the held-out part is tokenized here.

    Args:
        options: the options that select the text.
        vocab_size: number of ids, including special tokens.
        tokenizer: a checkpoint's; None to train one on the corpus.
        train: whether the part to train on is needed as well.

    Raises:
        ValueError: if a corpus is missing, unreadable or too small.
    """
    if options.corpus == EMBEDDED and not (cache_root() / "corpora").is_dir():
        log.info("Reading the documentation on this machine (once, about 20 s) ...")
    corpus = open_corpus(options.corpus, options.column, options.split, options.max_shards)
    val_corpus = None
    if options.val_corpus is not None:
        val_corpus = open_corpus(options.val_corpus, options.column, to_score=True)
        if isinstance(corpus, LargeCorpus):
            corpus = replace(corpus, splits=False)
    elif isinstance(corpus, Corpus) and corpus.survey.documents < 2:
        raise ValueError(
            f"the corpus {options.corpus} is too small: one document cannot be split into a part to train on and a "
            "held-out part; add text, or give held-out text with --data.val_corpus"
        )
    whole = val_corpus is not None  # nothing is held out of the corpus itself
    if tokenizer is None:
        tokenizer = cached_tokenizer(corpus, whole, vocab_size)
    val = cached_held_out(val_corpus or corpus, None if whole else True, tokenizer)
    shards = cached_shards(corpus, whole, tokenizer) if train else None
    return Prepared(corpus, val_corpus, tokenizer, shards, val)


def check_sizes(held_out: HeldOut, train: TokenShards | None, row_length: int) -> None:
    """Checks that the held-out text and the text to train on each fill a row.

    Raises:
        ValueError: if the corpus is too small.
    """
    if held_out.predictions < held_out.length:
        raise ValueError(
            f"the corpus is too small: its held-out part has {held_out.predictions:,} tokens, less than one row of "
            f"{held_out.length}; add text, or give held-out text with --data.val_corpus"
        )
    if train is not None and train.tokens is not None and train.tokens <= row_length:
        raise ValueError(
            f"the corpus is too small: {train.tokens:,} tokens to train on do not fill one row of {row_length}; "
            "add text, or lower --data.context"
        )


def cached_tokenizer(corpus: Corpus | LargeCorpus, whole: bool, vocab_size: int) -> Tokenizer:
    """The tokenizer of this corpus and vocabulary size, not trained on held-out text.

    Args:
        corpus: the text.
        whole: whether all of the corpus is to train on.
        vocab_size: number of ids, including special tokens.
    """
    path = cache_root() / "tokenizers" / f"{corpus.fingerprint}-{'all' if whole else TRAIN}-{vocab_size}.json"
    try:
        return Tokenizer.from_dict(read_checked(path))
    except (OSError, ValueError):  # missing or damaged
        log.info("Training a tokenizer of %s tokens on %s ...", f"{vocab_size:,}", corpus.name)
    texts = corpus.documents(None if whole and isinstance(corpus, Corpus) else False)
    wanted = min(max(MIN_CHARACTERS, vocab_size * CHARACTERS_PER_TOKEN), MAX_CHARACTERS)
    if isinstance(corpus, Corpus):  # every n-th document, so that all kinds of text are included
        texts = islice(texts, 0, None, max(1, corpus.survey.bytes // wanted))
    tokenizer = Tokenizer.train(first_characters(texts, wanted), vocab_size)
    write_checked(path, tokenizer.to_dict())
    return tokenizer


def _cached(folder: Path, open_folder: Callable[[Path], Opened], make: Callable[[Path], None], what: str) -> Opened:
    """Opens a folder of the cache, and makes it first if it is missing or damaged."""
    existed = folder.is_dir()
    try:
        return open_folder(folder)
    except (OSError, ValueError, KeyError):
        if existed:  # else it is missing, or another process has made it just now
            shutil.rmtree(folder, ignore_errors=True)
        log.info("Turning %s into tokens ...", what)
    with atomic_folder(folder) as work:
        make(work)
    return open_folder(folder)


def cached_held_out(corpus: Corpus | LargeCorpus, held_out: bool | None, tokenizer: Tokenizer) -> TokenFile:
    """The held-out part of a corpus (all of it, if ``held_out`` is None) as one token file."""

    def write(folder: Path) -> None:
        writer = TokenWriter(folder, HELD_OUT, tokenizer)
        for batch in tokenize(corpus.documents(held_out), tokenizer):
            writer.write(batch)
        writer.close()

    folder = _held_out_folder(corpus.fingerprint, held_out, tokenizer)
    return _cached(folder, lambda folder: TokenFile.open(folder, HELD_OUT), write, f"{corpus.name} (held out)")


def find_held_out(fingerprint: str, tokenizer: Tokenizer) -> TokenFile | None:
    """The held-out part that an earlier run has cached; None if it is no longer in the cache.

    The corpus itself is neither read nor fetched.

    Args:
        fingerprint: :attr:`Prepared.fingerprint`.
        tokenizer: of the run.
    """
    own, _, val = fingerprint.partition("+")
    try:
        return TokenFile.open(_held_out_folder(val or own, None if val else True, tokenizer), HELD_OUT)
    except (OSError, ValueError, KeyError):
        return None


def _held_out_folder(fingerprint: str, held_out: bool | None, tokenizer: Tokenizer) -> Path:
    kind = "all" if held_out is None else HELD_OUT
    return cache_root() / "tokens" / f"{fingerprint}-{kind}-{tokenizer.fingerprint}"


def cached_shards(corpus: Corpus | LargeCorpus, whole: bool, tokenizer: Tokenizer) -> TokenShards:
    """The part to train on, in shards. Those of a large corpus are made during training."""
    if isinstance(corpus, LargeCorpus):
        key = short_hash([corpus.column, corpus.threshold, SPAN_BYTES, tokenizer.fingerprint])
        return StreamedShards(corpus, tokenizer, cache_root() / "tokens" / f"streamed-{key}", SPAN_BYTES)
    folder = cache_root() / "tokens" / f"{corpus.fingerprint}-{'all' if whole else TRAIN}-{tokenizer.fingerprint}"
    write = partial(write_shards, corpus=corpus, held_out=None if whole else False, tokenizer=tokenizer)
    return _cached(folder, StoredShards.open_folder, write, corpus.name)


def write_shards(folder: Path, corpus: Corpus, held_out: bool | None, tokenizer: Tokenizer) -> None:
    """Distributes the documents of a corpus over shards of about 16 MB, round-robin.

    So each shard is a uniform sample of the corpus: reading the shards one after the other, each in a shuffled order,
    is as good as shuffling all documents, and takes no more memory than a shard.
    """
    shards = max(1, round(corpus.survey.bytes / SHARD_BYTES))
    writers = [TokenWriter(folder, f"{TRAIN}-{number}", tokenizer) for number in range(shards)]
    with ExitStack() as stack:
        for writer in writers:
            stack.callback(writer.close, **{SHARD_COUNT: shards})
        turn = count()
        for batch in tokenize(corpus.documents(held_out), tokenizer):
            for ids in batch:
                writers[next(turn) % shards].write([ids])
