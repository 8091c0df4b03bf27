"""A corpus: documents to train on, and others held out."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from nanochat.data.cache import cache_root, write_atomically
from nanochat.data.documents import find_files, read_documents
from nanochat.data.embedded import embedded_corpus

EMBEDDED = "embedded"
HELD_OUT_SHARE = 1 / 64  # of the documents; of a small corpus more, so that there are:
HELD_OUT_BYTES = 16_384
_HASHES = 2**64


@dataclass(frozen=True)
class Survey:
    """What one pass over a corpus finds out; kept in the cache, because a pass over a large corpus takes time.

    Attributes:
        documents: number of documents.
        bytes: their size in UTF-8.
        fingerprint: a short hash of all documents in their order.
        threshold: documents whose hash lies below it are held out.
    """

    documents: int
    bytes: int
    fingerprint: str
    threshold: int


@dataclass(frozen=True)
class Corpus:
    """Documents in files, and which of them are held out.

    A document is held out if the hash of its text is small. So the split depends on nothing but the document, and
    two copies of one text never end up on both sides.

    Attributes:
        name: for the plan and the summary.
        files: where the documents are, in this order.
        survey: what is known of them.
    """

    name: str
    files: tuple[Path, ...]
    survey: Survey

    def documents(self, held_out: bool | None = None) -> Iterator[str]:
        """Those to train on (False), those held out (True), or all (None), in their order."""
        for file in self.files:
            for text in read_documents(file):
                if held_out is None or (document_hash(text) < self.survey.threshold) == held_out:
                    yield text


def document_hash(text: str) -> int:
    """A number from 0 to 2**64 - 1 that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def open_corpus(source: str) -> Corpus:
    """Finds a corpus and surveys it, unless that was done before and the files are as they were.

    Args:
        source: "embedded", or the path of a file or a folder.

    Raises:
        ValueError: if there is no such corpus, or it holds no documents.
    """
    files = find_files(embedded_corpus() if source == EMBEDDED else Path(source).expanduser())
    stats = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = hashlib.sha256(json.dumps([stats, HELD_OUT_SHARE, HELD_OUT_BYTES]).encode()).hexdigest()[:16]
    known = cache_root() / "corpora" / f"survey-{key}.json"
    try:
        survey = Survey(**json.loads(known.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        survey = survey_documents(text for file in files for text in read_documents(file))
        if not survey.documents:
            raise ValueError(f"the corpus {source} is empty: its files hold no text") from None
        write_atomically(known, json.dumps(asdict(survey)))
    return Corpus(source, tuple(files), survey)


def survey_documents(documents: Iterator[str]) -> Survey:
    """Counts documents, takes their fingerprint, and decides where to split.

    One document in 64 is held out, but at least 16 KB if that is less than half of the corpus. Memory does not grow
    with the corpus.
    """
    count = total = held_out = 0
    fingerprint = hashlib.sha256()
    smallest: list[tuple[int, int]] = []  # a heap of (-hash, bytes): candidates for a small corpus' held-out part
    candidates = 0  # bytes of those
    threshold = int(HELD_OUT_SHARE * _HASHES)
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
    return Survey(count, total, fingerprint.hexdigest()[:16], threshold)
