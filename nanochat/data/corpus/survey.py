"""One pass over a small corpus, which gives its size, its fingerprint and the held-out split."""

from __future__ import annotations

import hashlib
import heapq
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nanochat.cache import cache_root, read_checked, short_hash, write_checked
from nanochat.data.corpus.bad_records import BadRecords
from nanochat.data.corpus.documents import read_documents

log = logging.getLogger(__name__)

HELD_OUT_SHARE = 1 / 64  # of the documents; of a small corpus more, to hold out at least:
HELD_OUT_BYTES = 16_384
THRESHOLD = int(HELD_OUT_SHARE * 2**64)  # the share of hashes below it is HELD_OUT_SHARE


@dataclass(frozen=True)
class Survey:
    """The result of the pass, which is cached.

    Attributes:
        documents: number of documents.
        bytes: their size in UTF-8.
        fingerprint: short hash of all documents in their order.
        threshold: documents whose hash lies below it are held out.
        bad_records: number of bad records, which are not among the documents.
    """

    documents: int
    bytes: int
    fingerprint: str
    threshold: int
    bad_records: int = 0


def survey_of(source: str, column: str, files: Sequence[Path]) -> Survey:
    """The survey of the documents in files; cached until a file changes.

    Args:
        source: the corpus as the user gave it, for errors.
        column: the column or field that holds the text.
        files: the files of the corpus, in their order.

    Raises:
        ValueError: if they hold no documents.
    """
    key = short_hash([list(map(file_stamp, files)), column, HELD_OUT_SHARE])
    path = cache_root() / "corpora" / f"survey-{key}.json"
    try:
        return Survey(**read_checked(path))
    except (OSError, ValueError, TypeError):
        pass  # missing or damaged
    bad_records = BadRecords()
    documents = (text for file in files for text in read_documents(file, column, bad_records))
    survey = survey_documents(documents, bad_records)
    for line in bad_records.lines():
        log.warning("%s", line)
    if not survey.documents:
        raise ValueError(f"the corpus {source} is empty: its files hold no text")
    write_checked(path, asdict(survey))
    return survey


def survey_documents(documents: Iterator[str], bad_records: BadRecords | None = None) -> Survey:
    """Counts documents, computes their fingerprint, and chooses the threshold of the held-out split.

    One document in 64 is held out, but at least 16 KB unless that is more than half of the corpus. Memory does not grow
    with the corpus.
    """
    count = total = held_out = 0
    fingerprint = hashlib.sha256()
    smallest: list[tuple[int, int]] = []  # a heap of (-hash, bytes): candidates for a small corpus' held-out part
    candidates = 0  # bytes of those candidates
    threshold = THRESHOLD
    for text in documents:
        hashed, size = document_hash(text), len(text.encode("utf-8", "surrogatepass"))
        count, total = count + 1, total + size
        fingerprint.update(hashed.to_bytes(8, "big"))
        held_out += size if hashed < threshold else 0
        if (-hashed, size) not in smallest:
            heapq.heappush(smallest, (-hashed, size))
            candidates += size
        while candidates - smallest[0][1] >= HELD_OUT_BYTES:
            candidates -= heapq.heappop(smallest)[1]
    if held_out < HELD_OUT_BYTES:
        while len(smallest) > 1 and candidates > total / 2:
            candidates -= heapq.heappop(smallest)[1]
        threshold = max(threshold, 1 - smallest[0][0]) if smallest else threshold
    bad = bad_records.total if bad_records is not None else 0
    return Survey(count, total, fingerprint.hexdigest()[:16], threshold, bad)


def document_hash(text: str) -> int:
    """A number from 0 to 2**64 - 1 that depends only on the text (BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def file_stamp(path: Path) -> tuple[str, int, int]:
    """Identifies a file's content without reading it: its path, size in bytes and modification time in ns."""
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns
