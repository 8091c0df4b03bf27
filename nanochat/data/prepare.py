"""From documents to token files: what is done once for each corpus and vocabulary, and then lies in the cache."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nanochat.data.cache import cache_root, new_folder
from nanochat.data.corpora import EMBEDDED, Corpus, open_corpus
from nanochat.tokenizer import Tokenizer

log = logging.getLogger(__name__)

TOKENIZER_CHARACTERS = 50_000_000  # a tokenizer learns from no more text than this; more changes few merges
BATCH_CHARACTERS = 2_000_000  # documents are tokenized in batches of about this size


@dataclass(frozen=True)
class TokenFile:
    """Documents as token ids, one after the other, each begun with ``<|bos|>``; read by mapping, not by loading.

    Attributes:
        folder: where the files are.
        part: what their names begin with.
        tokens: (tokens,), uint16 or uint32.
        starts: (documents + 1,), int64: where each document begins; the last entry is where the last one ends.
    """

    folder: Path
    part: str
    tokens: NDArray[np.unsignedinteger]
    starts: NDArray[np.int64]

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process that gets a copy maps the files again, instead of receiving their contents."""
        return TokenFile.open, (self.folder, self.part)

    @classmethod
    def open(cls, folder: Path, part: str) -> TokenFile:
        """Maps what :func:`write_tokens` wrote.

        Raises:
            ValueError: if the files are not what they were when they were written.
        """
        facts = json.loads((folder / f"{part}.json").read_text())
        starts = np.load(folder / f"{part}.starts.npy", mmap_mode="r", allow_pickle=False)
        path = folder / f"{part}.tokens"
        if path.stat().st_size != facts["tokens"] * np.dtype(facts["dtype"]).itemsize or len(starts) != (
            facts["documents"] + 1
        ):
            raise ValueError(f"{path} is damaged")
        if not facts["tokens"]:  # an empty file cannot be mapped
            return cls(folder, part, np.zeros(0, facts["dtype"]), starts)
        return cls(folder, part, np.memmap(path, facts["dtype"], mode="r"), starts)

    @property
    def documents(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True)
class Prepared:
    """All that training needs of a corpus."""

    corpus: Corpus
    val_corpus: Corpus | None
    tokenizer: Tokenizer
    train: TokenFile
    val: TokenFile

    @property
    def fingerprint(self) -> str:
        """Of the text; two runs with the same fingerprint were trained and scored on the same documents."""
        own = self.corpus.survey.fingerprint
        return own if self.val_corpus is None else f"{own}+{self.val_corpus.survey.fingerprint}"


def prepare(
    source: str, vocab_size: int, val_source: str | None = None, tokenizer: Tokenizer | None = None
) -> Prepared:
    """Finds the corpus, trains the tokenizer and tokenizes, each of them unless the cache has it.

    Args:
        source: "embedded", or the path of a file or a folder.
        vocab_size: number of ids, special tokens included.
        val_source: the held-out text, as ``source``; None to hold out a part of the corpus.
        tokenizer: a checkpoint's own; None to train one on the corpus.

    Raises:
        ValueError: if a corpus is missing, unreadable or too small.
    """
    if source == EMBEDDED and not (cache_root() / "corpora").is_dir():
        log.info("Reading the documentation on this machine (once, about 20 s) ...")
    corpus = open_corpus(source)
    val_corpus = open_corpus(val_source) if val_source is not None else None
    if val_corpus is None and corpus.survey.documents < 2:
        raise ValueError(
            f"the corpus {source} is too small: one document cannot be split into a part to train on and a held-out "
            "part; add text, or give held-out text with --data.val_corpus"
        )
    held_out = None if val_corpus is not None else False
    if tokenizer is None:
        tokenizer = cached_tokenizer(corpus, held_out, vocab_size)
    train = cached_tokens(corpus, held_out, tokenizer)
    val = cached_tokens(val_corpus or corpus, None if val_corpus else True, tokenizer)
    return Prepared(corpus, val_corpus, tokenizer, train, val)


def cached_tokenizer(corpus: Corpus, held_out: bool | None, vocab_size: int) -> Tokenizer:
    """The tokenizer of this corpus and vocabulary."""
    name = f"{corpus.survey.fingerprint}-{_part(held_out)}-{vocab_size}"
    folder = cache_root() / "tokenizers" / name
    try:
        return Tokenizer.load(folder / "tokenizer.json")
    except (OSError, ValueError):
        shutil.rmtree(folder, ignore_errors=True)  # not there, or damaged
        log.info("Training a tokenizer of %s tokens on %s ...", f"{vocab_size:,}", corpus.name)
    tokenizer = Tokenizer.train(_first_characters(corpus.documents(held_out)), vocab_size)
    with new_folder(folder) as work:
        tokenizer.save(work / "tokenizer.json")
    return tokenizer


def cached_tokens(corpus: Corpus, held_out: bool | None, tokenizer: Tokenizer) -> TokenFile:
    """The corpus, or a part of it, as a token file."""
    part = _part(held_out)
    folder = cache_root() / "tokens" / f"{corpus.survey.fingerprint}-{part}-{tokenizer.fingerprint}"
    try:
        return TokenFile.open(folder, part)
    except (OSError, ValueError, KeyError, EOFError):
        shutil.rmtree(folder, ignore_errors=True)  # not there, or damaged
        log.info("Turning %s (%s) into tokens ...", corpus.name, part)
    with new_folder(folder) as work:
        write_tokens(work, part, corpus.documents(held_out), tokenizer)
    return TokenFile.open(folder, part)


def _part(held_out: bool | None) -> str:
    return {None: "all", False: "train", True: "val"}[held_out]


def _first_characters(documents: Iterable[str]) -> Iterator[str]:
    total = 0
    for text in documents:
        yield text
        total += len(text)
        if total >= TOKENIZER_CHARACTERS:
            return


def write_tokens(folder: Path, part: str, documents: Iterable[str], tokenizer: Tokenizer) -> None:
    """Tokenizes documents into ``{part}.tokens``, ``{part}.starts.npy`` and ``{part}.json`` in a folder."""
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
    lengths: list[int] = []
    with open(folder / f"{part}.tokens", "wb") as file:
        for batch in _batches(documents):
            _write_batch(file, lengths, tokenizer.encode_documents(batch, threads=os.cpu_count() or 1), dtype)
    starts = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    np.save(folder / f"{part}.starts.npy", starts)
    facts = {"tokens": int(starts[-1]), "documents": len(lengths), "dtype": dtype.name}
    (folder / f"{part}.json").write_text(json.dumps(facts))


def _write_batch(file: IO[bytes], lengths: list[int], batch: list[list[int]], dtype: np.dtype) -> None:
    for ids in batch:
        file.write(np.asarray(ids, dtype).tobytes())
        lengths.append(len(ids))


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
