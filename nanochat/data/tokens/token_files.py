"""Token files: documents as token ids on the disk, read by mapping instead of loading."""

from __future__ import annotations

import mmap
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nanochat.cache import read_checked, write_checked
from nanochat.tokenizer import Tokenizer

BATCH_CHARACTERS = 2_000_000  # documents are tokenized in batches of about this size


@dataclass(frozen=True)
class TokenFile:
    """Documents as token ids, one after the other, each begun with ``<|bos|>``.

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
        """Maps what :class:`TokenWriter` wrote, after a look at its checksums.

        Raises:
            OSError: if there is no such file.
            ValueError: if the files are not what they were when they were written.
        """
        facts = read_metadata(folder, part)
        starts = np.fromfile(folder / f"{part}.starts", np.int64)
        path = folder / f"{part}.tokens"
        tokens = np.zeros(0, facts["dtype"])  # an empty file cannot be mapped
        if path.stat().st_size:
            tokens = np.memmap(path, facts["dtype"], mode="r")
        if (len(tokens), len(starts) - 1) != (facts["tokens"], facts["documents"]):
            raise ValueError(f"{path} is damaged: it has another size than was written")
        if [_checksum(tokens), _checksum(starts)] != facts["checksums"]:
            raise ValueError(f"{path} is damaged: its checksum is wrong")
        file = cls(folder, part, tokens, starts)
        file.let_go()
        return file

    def let_go(self) -> None:
        """Gives the memory back that has been read of the file, after all of it was: it is read again where needed."""
        if isinstance(mapped := self.tokens.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # on Linux
            mapped.madvise(mmap.MADV_DONTNEED)

    @property
    def documents(self) -> int:
        return len(self.starts) - 1


def read_metadata(folder: Path, part: str) -> dict[str, Any]:
    """What is known of a token file: ``tokens``, ``documents``, ``bad_records``, ...

    Raises:
        OSError: if there is no such file.
        ValueError: if it is damaged.
    """
    facts: dict[str, Any] = read_checked(folder / f"{part}.json")
    return facts


class TokenWriter:
    """Writes one token file: ``{part}.tokens``, ``{part}.starts`` and, when it is closed, ``{part}.json``."""

    def __init__(self, folder: Path, part: str, tokenizer: Tokenizer) -> None:
        self.folder, self.part = folder, part
        self.dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
        self.tokens = self.documents = 0
        self._checksums = [0, 0]
        self._ends = array("q", [0])
        self._tokens_file: IO[bytes] = open(folder / f"{part}.tokens", "wb")  # noqa: SIM115 (closed in close)
        self._starts_file: IO[bytes] = open(folder / f"{part}.starts", "wb")  # noqa: SIM115

    def write(self, documents: Iterable[NDArray[np.integer]]) -> None:
        """Appends documents, each an array of ids."""
        for ids in documents:
            self._append(0, self._tokens_file, ids.astype(self.dtype).tobytes())
            self.tokens += len(ids)
            self.documents += 1
            self._ends.append(self.tokens)
        self._flush_ends()

    def _append(self, which: int, file: IO[bytes], content: bytes) -> None:
        self._checksums[which] = zlib.crc32(content, self._checksums[which])
        file.write(content)

    def _flush_ends(self) -> None:
        self._append(1, self._starts_file, self._ends.tobytes())
        self._ends = array("q")

    def close(self, **facts: Any) -> None:
        """Writes down what is known, by which the files are checked when they are opened."""
        self._flush_ends()
        for file in (self._tokens_file, self._starts_file):
            file.close()
        known = {"tokens": self.tokens, "documents": self.documents, "dtype": self.dtype.name}
        facts = {**known, "checksums": self._checksums, **facts}
        write_checked(self.folder / f"{self.part}.json", facts)


def _checksum(values: NDArray[Any]) -> int:
    return zlib.crc32(values.view(np.uint8).data) if len(values) else 0


def tokenize(documents: Iterable[str], tokenizer: Tokenizer, threads: int | None = None) -> Iterator[list[NDArray]]:
    """Documents as arrays of ids, each begun with ``<|bos|>``, some thousands at a time.

    Args:
        documents: texts.
        tokenizer: what turns them into ids.
        threads: None takes one for each core.
    """
    batch: list[str] = []
    size = 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield tokenizer.encode_documents(batch, threads or os.cpu_count() or 1)
            batch, size = [], 0
    if batch:
        yield tokenizer.encode_documents(batch, threads or os.cpu_count() or 1)
