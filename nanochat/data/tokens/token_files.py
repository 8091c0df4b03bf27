"""Token files: documents as token ids on disk, read through a memory map."""

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

BATCH_CHARACTERS = 2_000_000  # approximate size of the batches in which documents are tokenized


@dataclass(frozen=True)
class TokenFile:
    """Documents as token ids, one after the other, each starting with ``<|bos|>``.

    Attributes:
        folder: folder of the files.
        name: their name without suffix.
        tokens: (tokens,), uint16 or uint32.
        starts: (documents + 1,), int64: where each document begins; the last entry is the end of the last one.
    """

    folder: Path
    name: str
    tokens: NDArray[np.unsignedinteger]
    starts: NDArray[np.int64]

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process that gets a copy maps the files itself, instead of receiving their contents."""
        return TokenFile.open, (self.folder, self.name)

    @classmethod
    def open(cls, folder: Path, name: str) -> TokenFile:
        """Maps the files that :class:`TokenWriter` wrote, and verifies their checksums.

        Raises:
            OSError: if there are no such files.
            ValueError: if the files have changed since they were written.
        """
        metadata = read_metadata(folder, name)
        starts = np.fromfile(folder / f"{name}.starts", np.int64)
        path = folder / f"{name}.tokens"
        tokens = np.zeros(0, metadata["dtype"])  # an empty file cannot be mapped
        if path.stat().st_size:
            tokens = np.memmap(path, metadata["dtype"], mode="r")
        if (len(tokens), len(starts) - 1) != (metadata["tokens"], metadata["documents"]):
            raise ValueError(f"{path} is damaged: its size is wrong")
        if [_checksum(tokens), _checksum(starts)] != metadata["checksums"]:
            raise ValueError(f"{path} is damaged: its checksum is wrong")
        _release_pages(tokens)
        return cls(folder, name, tokens, starts)

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.starts) - 1


def _release_pages(tokens: NDArray[Any]) -> None:
    """Releases the mapped pages that the checksum has read; they are read again where needed. On Linux only."""
    if isinstance(mapped := tokens.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def read_metadata(folder: Path, name: str) -> dict[str, Any]:
    """The metadata of a token file: ``tokens``, ``documents``, ``dtype``, ``checksums``, and what its writer added.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is damaged.
    """
    metadata: dict[str, Any] = read_checked(folder / f"{name}.json")
    return metadata


class TokenWriter:
    """Writes one token file: ``{name}.tokens``, ``{name}.starts`` and, on close, ``{name}.json`` with its metadata."""

    def __init__(self, folder: Path, name: str, tokenizer: Tokenizer) -> None:
        self.folder, self.name = folder, name
        self.dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
        self.tokens = self.documents = 0
        self._checksums = [0, 0]
        self._ends = array("q", [0])
        self._tokens_file: IO[bytes] = open(folder / f"{name}.tokens", "wb")  # noqa: SIM115 (closed in close)
        self._starts_file: IO[bytes] = open(folder / f"{name}.starts", "wb")  # noqa: SIM115

    def write(self, documents: Iterable[NDArray[np.integer]]) -> None:
        """Appends documents, each an array of ids."""
        for ids in documents:
            self._append(0, self._tokens_file, ids.astype(self.dtype).tobytes())
            self.tokens += len(ids)
            self.documents += 1
            self._ends.append(self.tokens)
        self._flush_ends()

    def _append(self, index: int, file: IO[bytes], content: bytes) -> None:
        self._checksums[index] = zlib.crc32(content, self._checksums[index])
        file.write(content)

    def _flush_ends(self) -> None:
        self._append(1, self._starts_file, self._ends.tobytes())
        self._ends = array("q")

    def close(self, **more: Any) -> None:
        """Writes the metadata, by which the files are verified when they are opened, and ``more`` into it."""
        self._flush_ends()
        for file in (self._tokens_file, self._starts_file):
            file.close()
        metadata = {"tokens": self.tokens, "documents": self.documents, "dtype": self.dtype.name}
        write_checked(self.folder / f"{self.name}.json", {**metadata, "checksums": self._checksums, **more})


def _checksum(values: NDArray[Any]) -> int:
    return zlib.crc32(values.view(np.uint8).data) if len(values) else 0


def tokenize(documents: Iterable[str], tokenizer: Tokenizer, threads: int | None = None) -> Iterator[list[NDArray]]:
    """Tokenizes documents in batches of some thousands.

    Args:
        documents: texts.
        tokenizer: the tokenizer.
        threads: None takes one per core.

    Yields:
        A batch: for each document its ids, starting with ``<|bos|>``.
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
