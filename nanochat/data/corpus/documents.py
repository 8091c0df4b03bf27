"""Reading documents from files: .txt, .md, .py, .jsonl and .parquet, in spans that can be read independently.

A record that cannot be read (a line that is not UTF-8 or not JSON, a null instead of a text) is skipped and counted.
A file that cannot be read, or that has no good record, raises an error that names the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nanochat.data.corpus.bad_records import BadRecords, bad_text

TEXT_SUFFIXES = {".txt", ".md", ".py"}
SUFFIXES = TEXT_SUFFIXES | {".jsonl", ".parquet"}

# A text file is one document. A longer one, such as a book, is cut at paragraphs, so that it can be split and shuffled.
WHOLE_BYTES = 16_384
CHUNK_BYTES = 4_096
# A record is one document. A longer one is cut at paragraphs, which bounds the memory of all later stages.
RECORD_BYTES = 1_000_000
RECORD_CHUNK_BYTES = 262_144

SPAN_BYTES = 16_000_000  # approximate bytes of text in a span


class Span(NamedTuple):
    """A part of a file that can be read without reading the file before it.

    Attributes:
        path: the file.
        begin: of a .parquet file the first row; of other kinds a byte offset: the first line that begins there or later
            is the first of the span.
        end: the begin of the next span.
    """

    path: Path
    begin: int
    end: int


def find_files(path: Path) -> list[Path]:
    """The files of a corpus: the path itself, or all files of a known kind below a folder, sorted by name.

    Hidden files and folders are skipped.

    Raises:
        ValueError: if there is no such path, or no file of a known kind.
    """
    kinds = ", ".join(sorted(SUFFIXES))
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"cannot read {path}: a corpus is made of {kinds} files")
        return [path]
    if not path.is_dir():
        raise ValueError(f"there is no file or folder {path}: a corpus is a path to {kinds} files")
    files = []
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        files += [
            Path(folder, n) for n in sorted(names) if not n.startswith(".") and Path(n).suffix.lower() in SUFFIXES
        ]
    if not files:
        raise ValueError(f"the folder {path} holds no text: a corpus is made of {kinds} files")
    return files


def spans(path: Path, column: str = "text", span_bytes: int = SPAN_BYTES) -> list[Span]:
    """Cuts a file into spans, without reading the text.

    Args:
        path: the file.
        column: the column of a .parquet file that holds the text.
        span_bytes: approximate bytes of text in a span.

    Raises:
        ValueError: if a .parquet file is damaged or has no such column.
    """
    if path.suffix.lower() == ".parquet":
        from nanochat.data.corpus.parquet import parquet_spans  # here, as pyarrow takes 0.3 s to import

        return [Span(path, begin, end) for begin, end in parquet_spans(path, column, span_bytes)]
    size = path.stat().st_size
    return [Span(path, begin, min(begin + span_bytes, size)) for begin in range(0, size, span_bytes)]


def read_documents(source: Path | Span, column: str = "text", bad_records: BadRecords | None = None) -> Iterator[str]:
    """The documents of a file or of a span of it, in their order, without blank ones.

    A record of a .jsonl or .parquet file is a document; one of more than 1 MB is cut at paragraphs. A .txt, .md or .py
    file is one document; one of more than 16 KB is cut at paragraphs into documents of about 4 KB.

    Args:
        source: the file or the span.
        column: the column of a .parquet file, or the field of a .jsonl file's records, that holds the text.
        bad_records: counts the bad records.

    Raises:
        ValueError: if the file is not of the kind that its suffix says, or a whole file has no good record, in one line
            that names it.
    """
    whole = not isinstance(source, Span)
    span = Span(source, 0, -1) if isinstance(source, Path) else source
    bad_records = bad_records if bad_records is not None else BadRecords()
    good = False
    match span.path.suffix.lower():
        case ".jsonl":
            texts = _cut_records(_read_jsonl(span, column, bad_records))
        case ".parquet":
            from nanochat.data.corpus.parquet import read_parquet

            texts = _cut_records(read_parquet(span.path, span.begin, span.end, column, bad_records))
        case _:
            texts = _read_text(span, bad_records)
    for text in texts:
        if text and not text.isspace():
            good = True
            yield text
    if whole and not good and str(span.path) in bad_records.counts:
        first = bad_records.first[str(span.path)]
        raise ValueError(f"{span.path}, {first}; it has no good record: repair or remove it")


def _lines(span: Span) -> Iterator[tuple[int, bytes]]:
    """The lines that begin in a span, each with its byte offset in the file."""
    with open(span.path, "rb") as file:
        end = span.end if span.end >= 0 else os.fstat(file.fileno()).st_size
        if span.begin:  # a line that reaches into this span belongs to the span before
            file.seek(span.begin - 1)
            file.readline()
        offset = file.tell()
        while offset < end and (line := file.readline()):
            yield offset, line
            offset += len(line)


def _decode_line(line: bytes, offset: int) -> str:
    return line.decode("utf-8-sig" if offset == 0 else "utf-8")  # a file may begin with a byte order mark


def _read_text(span: Span, bad_records: BadRecords) -> Iterator[str]:
    whole = span.path.stat().st_size <= WHOLE_BYTES
    lines = _decode(span, bad_records)
    yield from ["".join(lines)] if whole else cut_at_paragraphs(lines)


def _decode(span: Span, bad_records: BadRecords) -> Iterator[str]:
    for offset, line in _lines(span):
        try:
            text = _decode_line(line, offset)
        except UnicodeDecodeError as error:
            bad_records.add(span.path, f"byte {offset + error.start:,}", "not UTF-8, convert the file to UTF-8")
            continue
        if "\0" in text:
            bad_records.add(span.path, f"byte {offset:,}", "a NUL byte, as in UTF-16 or binary files")
            continue
        yield text[:-2] + "\n" if text.endswith("\r\n") else text


def cut_at_paragraphs(lines: Iterable[str], chunk_bytes: int = CHUNK_BYTES) -> Iterator[str]:
    """Joins lines to chunks of about 4 KB, cut at blank lines if possible, else between lines, else anywhere.

    The chunks concatenated are the lines concatenated. Memory holds one chunk and one line.
    """
    chunk: list[str] = []
    size = 0
    for paragraph in _paragraphs(lines, chunk_bytes):
        length = len(paragraph.encode("utf-8", "surrogatepass"))
        if chunk and size + length > chunk_bytes:
            yield "".join(chunk)
            chunk, size = [], 0
        chunk.append(paragraph)
        size += length
    if chunk:
        yield "".join(chunk)


def _paragraphs(lines: Iterable[str], most: int) -> Iterator[str]:
    """Paragraphs: lines up to and including the blank ones after them; longer ones in parts of ``most`` characters."""
    paragraph: list[str] = []
    size = 0
    for whole_line in lines:
        for start in range(0, len(whole_line), most):
            line = whole_line[start : start + most]
            ended = paragraph and paragraph[-1].isspace() and not line.isspace()
            if ended or size + len(line) > most:
                yield "".join(paragraph)
                paragraph, size = [], 0
            paragraph.append(line)
            size += len(line)
    if paragraph:
        yield "".join(paragraph)


def _cut_records(texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        if len(text) <= RECORD_BYTES:
            yield text
        else:
            yield from cut_at_paragraphs(text.splitlines(keepends=True), RECORD_CHUNK_BYTES)


def _read_jsonl(span: Span, column: str, bad_records: BadRecords) -> Iterator[str]:
    for offset, line in _lines(span):
        if line.isspace():
            continue
        location = partial(_location, span, offset)
        try:
            record = json.loads(_decode_line(line, offset))
        except UnicodeDecodeError:
            bad_records.add(span.path, location, "not UTF-8")
        except (ValueError, RecursionError) as error:
            bad_records.add(span.path, location, f"not JSON ({error})")
        else:
            text = record.get(column) if isinstance(record, dict) else None
            if isinstance(text, str) and not bad_text(text, column):
                yield text
            else:
                bad_records.add(span.path, location, bad_text(text, column))


def _location(span: Span, offset: int) -> str:
    """The line's number; its byte offset if counting lines would take long."""
    if offset > SPAN_BYTES:
        return f"byte {offset:,}"
    with open(span.path, "rb") as file:
        return f"line {file.read(offset).count(10) + 1:,}"
