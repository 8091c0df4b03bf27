"""Damaged files of text: no crash, no hang, no memory bomb, and every record is delivered or counted as bad."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from nanochat.data.corpus.bad_records import BadRecords
from nanochat.data.corpus.documents import read_documents, spans
from tests.conftest import sentences
from tests.data.corpus.test_documents import write_parquet
from tests.fuzzing import (
    Corrupted,
    ReaderProcess,
    check_error_line,
    corruptions,
    report,
)

SPAN_BYTES = 3_000


@pytest.fixture(scope="module")
def reader() -> Iterator[ReaderProcess]:
    process = ReaderProcess()
    yield process
    process.close()


# Each test runs on a few damaged files, and on many when slow tests are selected.
quick_and_slow = pytest.mark.parametrize(
    "share", [pytest.param(0.05, id="quick"), pytest.param(1.0, marks=pytest.mark.slow, id="slow")]
)


def read_all(path: Path) -> tuple[list[str], int, list[str], int]:
    """Documents and number of bad records of a file, read whole and span by span."""
    whole, apart = BadRecords(), BadRecords()
    texts = list(read_documents(path, bad_records=whole))
    parts = [text for span in spans(path, span_bytes=SPAN_BYTES) for text in read_documents(span, bad_records=apart)]
    return texts, whole.total, parts, apart.total


def in_order(wanted: Iterable[Any], found: Iterable[Any]) -> bool:
    """Whether ``wanted`` is a subsequence of ``found``."""
    rest = iter(found)
    return all(any(other == one for other in rest) for one in wanted)


def lines_of(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each line, preceded by its offset and the offset of the next line."""
    place = 0
    for line in content.split(b"\n"):
        yield place, place + len(line) + 1, line
        place += len(line) + 1


def spared_lines(content: bytes, damaged: Corrupted) -> list[bytes]:
    """Lines that the damage did not touch, including the line break before them; without blank ones."""
    return [
        line
        for begin, end, line in lines_of(content)
        if not line.isspace() and line and damaged.spares(max(0, begin - 1), min(end, len(content)))
    ]


def is_blank(line: bytes) -> bool:
    """As the readers define it: blank lines are bytes, blank documents are text."""
    try:
        return not line.decode().strip()
    except UnicodeDecodeError:
        return False


def readings(
    reader: ReaderProcess,
    folder: Path,
    suffix: str,
    content: bytes,
    accidental: Iterable[Corrupted],
    text_of: Callable[[bytes], str],
    counts: Counter[str],
) -> Iterator[tuple[Corrupted, list[str], tuple[Any, ...]]]:
    """Each damaged file that can be read, with the texts whose bytes are untouched, and the result of :func:`read_all`.

    The error of any other file must be one line that names it, and the file must hold no untouched text.
    """
    for number, damaged in enumerate(accidental):
        path = folder / f"{number}{suffix}"
        path.write_bytes(damaged.content)
        spared = [text_of(line) for line in spared_lines(content, damaged)]
        try:
            found = reader(damaged.how, read_all, path)
        except ValueError as error:
            check_error_line(error, path, damaged.how)
            assert not spared, damaged.how
            counts["refused"] += 1
            continue
        yield damaged, spared, found
        bad_records = found[1]
        counts["left out"] += bad_records > 0
        counts["read"] += bad_records == 0


@quick_and_slow
def test_jsonl(share: float, tmp_path: Path, reader: ReaderProcess) -> None:
    records = [{"n": n, "text": text} for n, text in enumerate([*sentences(40), "naïve 你好 😀\nline\ttwo"])]
    content = b"".join(json.dumps(r, ensure_ascii=n % 2 == 0).encode() + b"\n" for n, r in enumerate(records))
    counts, started = Counter[str](), time.monotonic()
    accidental = corruptions(content, int(400 * share), seed=1)
    for damaged, spared, (texts, bad_records, parts, bad_records_apart) in readings(
        reader, tmp_path, ".jsonl", content, accidental, lambda line: json.loads(line)["text"], counts
    ):
        assert in_order(spared, texts), damaged.how
        assert len(texts) + bad_records == sum(not line.isspace() for line in damaged.content.split(b"\n") if line)
        assert (parts, bad_records_apart) == (texts, bad_records), damaged.how
    report("jsonl", counts, started)


@quick_and_slow
@pytest.mark.parametrize("documents", [20, 300])
def test_text(documents: int, share: float, tmp_path: Path, reader: ReaderProcess) -> None:
    lines = [line for text in sentences(documents) for line in (text, "naïve 你好 😀, it's", "")]
    content = "\n".join(lines).encode()
    assert (len(content) > 16_384) == (documents > 20)
    counts, started = Counter[str](), time.monotonic()
    accidental = corruptions(content, int(300 * share), seed=2)
    for damaged, spared, (texts, bad_records, parts, bad_records_apart) in readings(
        reader, tmp_path, ".txt", content, accidental, bytes.decode, counts
    ):
        found = [line for line in "".join(texts).split("\n") if line.strip()]
        assert in_order(spared, found), damaged.how
        assert len(found) + bad_records == sum(not is_blank(line) for line in damaged.content.split(b"\n")), damaged.how
        assert "".join(parts).split() == "".join(texts).split(), damaged.how
        assert bad_records_apart == bad_records, damaged.how
    report(f"{documents} lines of text", counts, started)


PARQUET: dict[str, dict[str, Any]] = {
    "snappy": {"compression": "snappy", "row_group_size": 20},
    "zstd": {"compression": "zstd", "use_dictionary": False, "row_group_size": 20},
    "gzip": {"compression": "gzip", "row_group_size": 100, "data_page_size": 500},
    "plain": {"compression": "none", "use_dictionary": False, "row_group_size": 20},
    "checked": {"compression": "none", "write_page_checksum": True, "row_group_size": 30},
    "version 2": {"compression": "lz4", "data_page_version": "2.0", "row_group_size": 20},
    "large_string": {"compression": "brotli", "row_group_size": 30, "write_page_index": True},
}


@quick_and_slow
@pytest.mark.parametrize("kind", sorted(PARQUET))
@pytest.mark.parametrize("where", ["anywhere", "footer"])
def test_parquet(where: str, kind: str, share: float, tmp_path: Path, reader: ReaderProcess) -> None:
    texts = [None if n % 17 == 5 else text for n, text in enumerate([*sentences(90), *sentences(10)])]
    column = pyarrow.array(texts, pyarrow.large_string() if kind == "large_string" else pyarrow.string())
    original = tmp_path / "original.parquet"
    write_parquet(original, column, **PARQUET[kind])
    content = original.read_bytes()
    groups = list(row_groups(original, texts))
    begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little") if where == "footer" else 0
    counts, started = Counter[str](), time.monotonic()
    assert reader("whole", read_all, original)[0] == [text for text in texts if text]
    for number, damaged in enumerate(corruptions(content, int(max(150 * share, 9)), seed=3, begin=begin)):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(damaged.content)
        try:
            found, bad_records, parts, bad_records_apart = reader(damaged.how, read_all, path)
        except ValueError as error:
            check_error_line(error, path, damaged.how)
            counts["refused"] += 1
            continue
        # untouched rows are delivered, and every row of the file is delivered or counted as bad
        spared = [text for first, last, rows in groups if damaged.spares(first, last) for text in rows if text]
        assert in_order(spared, found), damaged.how
        assert len(found) + bad_records == len(texts), damaged.how
        assert (parts, bad_records_apart) == (found, bad_records), damaged.how
        counts["read"] += 1
    report(f"{kind} parquet, {where}", counts, started)


def row_groups(path: Path, texts: list[str | None]) -> Iterator[tuple[int, int, list[str | None]]]:
    """The byte range of each row group's text, and its rows."""
    metadata, row = pyarrow.parquet.read_metadata(path), 0
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        chunk = group.column(0)
        begin = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
        yield begin, begin + chunk.total_compressed_size, texts[row : row + group.num_rows]
        row += group.num_rows


def test_metadata_that_crashes_pyarrow_raises(tmp_path: Path, reader: ReaderProcess) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, sentences(3))
    # thrift: the column of byte arrays is optional, as its size statistics state; this makes it required
    changed = path.read_bytes().replace(b"\x15\x0c\x25\x02\x18\x04text", b"\x15\x0c\x25\x00\x18\x04text")
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="a.parquet is damaged or is not a parquet file"):
        reader("required", spans, path)


@pytest.mark.slow
def test_every_bit_of_parquet_metadata(tmp_path: Path, reader: ReaderProcess) -> None:
    path = tmp_path / "a.parquet"
    texts = sentences(6)
    write_parquet(path, texts, row_group_size=3, compression="none")
    content = path.read_bytes()
    counts, started = Counter[str](), time.monotonic()
    for place in range(len(content) - 8 - int.from_bytes(content[-8:-4], "little"), len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                found, bad_records, parts, _ = reader(f"bit {bit} of byte {place}", read_all, path)
            except ValueError as error:
                check_error_line(error, path, f"bit {bit} of byte {place}")
                counts["refused"] += 1
                continue
            assert (found, bad_records, parts) == (texts, 0, texts), f"bit {bit} of byte {place}"
            counts["read"] += 1
    report("bits of metadata", counts, started)
