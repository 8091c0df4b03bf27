"""From documents to tokens: what is done once for each corpus and vocabulary, and then lies in the cache."""

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
from nanochat.data.tokens.shards import TRAIN, StoredShards, StreamedShards, TokenShards
from nanochat.data.tokens.token_files import TokenFile, TokenWriter, tokenize
from nanochat.tokenizer import Tokenizer
from nanochat.wording import plural

log = logging.getLogger(__name__)

# A tokenizer learns from so many characters for each of its tokens, within these limits; more changes few merges.
CHARACTERS_PER_TOKEN, LEAST_CHARACTERS, MOST_CHARACTERS = 4_000, 8_000_000, 50_000_000
SHARD_BYTES = 16_000_000  # of text in a shard of a small corpus
HELD_OUT = "val"
Opened = TypeVar("Opened")


@dataclass(frozen=True)
class CorpusOptions:
    """Which text is meant.

    Attributes:
        corpus: "embedded", the path of a file or a folder, or a corpus on the hub.
        val_corpus: the held-out text; None to hold out a part of the corpus.
        column: the column or field that holds the text.
        split: of a corpus on the hub.
        max_shards: of a corpus on the hub, no more than its first so many.
    """

    corpus: str
    val_corpus: str | None = None
    column: str = "text"
    split: str = "train"
    max_shards: int | None = None


@dataclass(frozen=True)
class Prepared:
    """All that a run needs of a corpus; ``train`` is None where it only scores."""

    corpus: Corpus | LargeCorpus
    val_corpus: Corpus | LargeCorpus | None
    tokenizer: Tokenizer
    train: TokenShards | None
    val: TokenFile

    @property
    def fingerprint(self) -> str:
        """Of the text; two runs with the same fingerprint were trained and scored on the same documents."""
        own = self.corpus.fingerprint
        return own if self.val_corpus is None else f"{own}+{self.val_corpus.fingerprint}"

    @property
    def extent(self) -> str:
        """How much text there is, in words."""
        if isinstance(self.corpus, LargeCorpus):
            return plural(len(self.corpus.shards), "file")
        survey = self.corpus.survey
        bad = f", {plural(survey.bad_records, 'bad record')} left out" if survey.bad_records else ""
        return f"{plural(survey.documents, 'document')}, {survey.bytes / 1e6:,.1f} MB{bad}"


def prepare(
    options: CorpusOptions, vocab_size: int, tokenizer: Tokenizer | None = None, train: bool = True
) -> Prepared:
    """Finds the corpus, trains the tokenizer and tokenizes, each of them unless the cache has it.

    Of a large corpus only the held-out part is tokenized here.

    Args:
        options: which text.
        vocab_size: number of ids, special tokens included.
        tokenizer: a checkpoint's own; None to train one on the corpus.
        train: whether the part to train on is needed, too.

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
    whole = val_corpus is not None  # then nothing is held out of the corpus itself
    if tokenizer is None:
        tokenizer = cached_tokenizer(corpus, whole, vocab_size)
    val = cached_held_out(val_corpus or corpus, None if whole else True, tokenizer)
    shards = cached_shards(corpus, whole, tokenizer) if train else None
    return Prepared(corpus, val_corpus, tokenizer, shards, val)


def cached_tokenizer(corpus: Corpus | LargeCorpus, whole: bool, vocab_size: int) -> Tokenizer:
    """The tokenizer of this corpus and vocabulary; it does not learn from held-out text."""
    known = cache_root() / "tokenizers" / f"{corpus.fingerprint}-{'all' if whole else TRAIN}-{vocab_size}.json"
    try:
        return Tokenizer.from_dict(read_checked(known))
    except (OSError, ValueError):  # not there, or damaged
        log.info("Training a tokenizer of %s tokens on %s ...", f"{vocab_size:,}", corpus.name)
    texts = corpus.documents(None if whole and isinstance(corpus, Corpus) else False)
    wanted = min(max(LEAST_CHARACTERS, vocab_size * CHARACTERS_PER_TOKEN), MOST_CHARACTERS)
    if isinstance(corpus, Corpus):  # every n-th document, so that each kind has its say
        texts = islice(texts, 0, None, max(1, corpus.survey.bytes // wanted))
    tokenizer = Tokenizer.train(first_characters(texts, wanted), vocab_size)
    write_checked(known, tokenizer.to_dict())
    return tokenizer


def _cached(folder: Path, open_folder: Callable[[Path], Opened], make: Callable[[Path], None], what: str) -> Opened:
    """What a folder of the cache holds; it is made first if it is not there, or damaged."""
    there = folder.is_dir()
    try:
        return open_folder(folder)
    except (OSError, ValueError, KeyError):
        if there:  # what was not there a moment ago is not damaged: another process has just made it
            shutil.rmtree(folder, ignore_errors=True)
        log.info("Turning %s into tokens ...", what)
    with atomic_folder(folder) as work:
        make(work)
    return open_folder(folder)


def cached_held_out(corpus: Corpus | LargeCorpus, held_out: bool | None, tokenizer: Tokenizer) -> TokenFile:
    """The held-out part of a corpus (or all of it, if ``held_out`` is None) as one token file."""

    def write(folder: Path) -> None:
        writer = TokenWriter(folder, HELD_OUT, tokenizer)
        for batch in tokenize(corpus.documents(held_out), tokenizer):
            writer.write(batch)
        writer.close()

    folder = _held_out_folder(corpus.fingerprint, held_out, tokenizer)
    return _cached(folder, lambda folder: TokenFile.open(folder, HELD_OUT), write, f"{corpus.name} (held out)")


def find_held_out(fingerprint: str, tokenizer: Tokenizer) -> TokenFile | None:
    """The held-out part that an earlier run has left in the cache; None if it is not there any more.

    The corpus itself is neither looked at nor fetched.

    Args:
        fingerprint: :attr:`Prepared.fingerprint`.
        tokenizer: the run's.
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
    """The part to train on, in shards: of a small corpus all of them, of a large one none as yet."""
    if isinstance(corpus, LargeCorpus):
        key = short_hash([corpus.column, corpus.threshold, SPAN_BYTES, tokenizer.fingerprint])
        return StreamedShards(corpus, tokenizer, cache_root() / "tokens" / f"streamed-{key}", SPAN_BYTES)
    folder = cache_root() / "tokens" / f"{corpus.fingerprint}-{'all' if whole else TRAIN}-{tokenizer.fingerprint}"
    write = partial(write_shards, corpus=corpus, held_out=None if whole else False, tokenizer=tokenizer)
    return _cached(folder, StoredShards.open_folder, write, corpus.name)


def write_shards(folder: Path, corpus: Corpus, held_out: bool | None, tokenizer: Tokenizer) -> None:
    """Deals a corpus' documents out to shards of about 16 MB, one after the other like cards.

    So each shard is a fair sample of the corpus: reading the shards in turn, each in a shuffled order, is as good as
    shuffling all documents, and takes no more memory than a shard.
    """
    shards = max(1, round(corpus.survey.bytes / SHARD_BYTES))
    writers = [TokenWriter(folder, f"{TRAIN}-{number}", tokenizer) for number in range(shards)]
    with ExitStack() as stack:
        for writer in writers:
            stack.callback(writer.close, pieces=shards)
        turn = count()
        for batch in tokenize(corpus.documents(held_out), tokenizer):
            for ids in batch:
                writers[next(turn) % shards].write([ids])
