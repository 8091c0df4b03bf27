"""Documents in parquet files, read in bounded memory for any file size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from pyarrow.parquet import ParquetFile

from nanochat.data.corpus.bad_records import BadRecords, bad_text
from nanochat.wording import one_line

BATCH_ROWS = 256  # rows decoded at a time
STRINGS = (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_string_view)
MAX_QUOTE = 160  # characters quoted from pyarrow or from the file in an error


@contextmanager
def _open(path: Path, column: str) -> Iterator[ParquetFile]:
    """Opens a file that has this column of strings.

    Raises:
        ValueError: if it is damaged or has no such column. Errors raised inside the ``with`` block are converted too.
    """
    try:
        # without pre-buffering, which would read whole row groups: some files are a single one
        with ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            if column not in names:
                known = _printable(", ".join(names))
                raise ValueError(f'{path} has no column "{column}", only: {known} (see --data.column)')
            if names.count(column) > 1:
                raise ValueError(f'{path} has several columns "{column}": rename one of them')
            kind = file.schema_arrow.field(column).type
            if not any(is_kind(kind) for is_kind in STRINGS):
                raise ValueError(f'{path}: the column "{column}" does not hold strings but {_printable(str(kind))}')
            yield file
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        # damage can raise any of these; the errors of a missing or unreadable file are clear already
        if isinstance(error, (FileNotFoundError, PermissionError)):
            raise
        raise _damaged(path, str(error) or type(error).__name__) from error


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} is damaged or is not a parquet file: {_printable(reason)}")


def _printable(text: str) -> str:
    """A short text without line breaks or control characters, which a damaged file may contain."""
    return one_line(text[:MAX_QUOTE])


def _check_layout(path: Path, file: ParquetFile, column: str) -> None:
    """Checks that the metadata is consistent; pyarrow would read inconsistent metadata as fewer or different rows.

    One row of each group is read first: damage found there raises an exception, while some damage found through the
    metadata objects crashes the process.

    Raises:
        ValueError: if it is not.
    """
    metadata = file.metadata
    for group in range(metadata.num_row_groups):
        next(file.iter_batches(1, [group], [column]), None)
    rows, ranges = 0, []
    for group, chunk in _chunks(file, column):
        begin = chunk.data_page_offset
        if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < begin:
            begin = chunk.dictionary_page_offset
        if chunk.num_values != group.num_rows or group.num_rows < 0:
            raise _damaged(path, "its row groups and their columns differ in their number of rows")
        rows += group.num_rows
        ranges.append((begin, begin + chunk.total_compressed_size))
    if any(end > begin for (_, end), (begin, _) in pairwise(sorted(ranges))):
        raise _damaged(path, f"two chunks of the column {column} overlap")
    if rows != metadata.num_rows:
        raise _damaged(path, f"its row groups have {rows:,} rows, and the file {metadata.num_rows:,}")


def _chunks(file: ParquetFile, column: str) -> Iterator[tuple[Any, Any]]:
    """The metadata of each row group and of its chunk of the column."""
    metadata = file.metadata
    index = [metadata.schema.column(i).path for i in range(metadata.num_columns)].index(column)
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        yield group, group.column(index)


def parquet_spans(path: Path, column: str, span_bytes: int) -> list[tuple[int, int]]:
    """Ranges of rows that hold about ``span_bytes`` of text each, estimated from the file's metadata."""
    with _open(path, column) as file:
        _check_layout(path, file, column)
        ranges: list[tuple[int, int]] = []
        begin = row = size = 0
        for group, chunk in _chunks(file, column):
            group_bytes = chunk.total_uncompressed_size
            if row > begin and size + group_bytes > span_bytes:
                ranges.append((begin, row))
                begin, size = row, 0
            parts = min(max(1, round(group_bytes / span_bytes)), max(1, group.num_rows))
            ranges += [
                (row + group.num_rows * part // parts, row + group.num_rows * (part + 1) // parts)
                for part in range(parts)
                if parts > 1
            ]
            row += group.num_rows
            begin, size = (row, 0) if parts > 1 else (begin, size + group_bytes)
        return [*ranges, (begin, row)] if row > begin else ranges


def read_parquet(path: Path, begin: int, end: int, column: str, bad_records: BadRecords) -> Iterator[str]:
    """The texts of rows ``begin`` to ``end`` (-1: to the last); null and invalid ones are counted as bad records."""
    with _open(path, column) as file:
        if end < 0:
            _check_layout(path, file, column)
            end = file.metadata.num_rows
        row = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row + rows > begin and row < end:
                after = row + rows
                for batch in file.iter_batches(BATCH_ROWS, [group], [column]):
                    if row + len(batch) > begin and row < end:
                        part = batch.column(0)[max(0, begin - row) : end - row]
                        yield from _texts(part, path, max(row, begin), column, bad_records)
                    row += len(batch)
                    if row >= end:
                        return
                if row != after:
                    raise _damaged(path, f"row group {group} lacks {after - row:,} of its {rows:,} rows")
            else:
                row += rows


def _texts(array: pyarrow.Array, path: Path, row: int, column: str, bad_records: BadRecords) -> Iterator[str]:
    try:
        texts = array.to_pylist()
    except UnicodeDecodeError:  # one of them is not UTF-8: decode one at a time
        texts = [_decoded(raw) for raw in array.cast(pyarrow.large_binary()).to_pylist()]
    for number, text in enumerate(texts, row):
        if isinstance(text, bytes):
            bad_records.add(path, f"row {number:,}", "not UTF-8")
        elif why := bad_text(text, column):
            bad_records.add(path, f"row {number:,}", why)
        else:
            yield text


def _decoded(raw: bytes | None) -> str | bytes | None:
    try:
        return raw if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
