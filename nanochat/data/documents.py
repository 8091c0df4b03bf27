"""Reading documents from a user's own files: .txt, .md, .py, .jsonl and .parquet."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

TEXT_SUFFIXES = {".txt", ".md", ".py"}
SUFFIXES = TEXT_SUFFIXES | {".jsonl", ".parquet"}

# A text file is one document. A book in one file is cut at paragraphs, so that it can be split and shuffled.
WHOLE_BYTES = 16_384
PIECE_BYTES = 4_096


def find_files(path: Path) -> list[Path]:
    """The files of a corpus: the path itself, or all of the known kinds below a folder, in the order of their names.

    Hidden files and folders are left out.

    Raises:
        ValueError: if there is no such path, or no file of a known kind.
    """
    kinds = ", ".join(sorted(SUFFIXES))
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"cannot read {path}: a corpus is made of {kinds} files")
        return [path]
    if not path.is_dir():
        raise ValueError(f"there is no file or folder {path}: give --data.corpus a path to {kinds} files")
    files = []
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        files += [
            Path(folder, n) for n in sorted(names) if not n.startswith(".") and Path(n).suffix.lower() in SUFFIXES
        ]
    if not files:
        raise ValueError(f"the folder {path} holds no text: a corpus is made of {kinds} files")
    return files


def read_documents(path: Path) -> Iterator[str]:
    """The documents of one file, in their order, without those that hold nothing but white space.

    A record of a .jsonl or .parquet file is a document. A .txt, .md or .py file is one document too, but one of more
    than 16 KB is cut at paragraphs into documents of about 4 KB.

    Raises:
        ValueError: if the file is not what its name says, in one line that names the file (and the line in it).
    """
    match path.suffix.lower():
        case ".jsonl":
            texts = _read_jsonl(path)
        case ".parquet":
            texts = _read_parquet(path)
        case _:
            texts = _read_text(path)
    return (text for text in texts if text and not text.isspace())


def _read_text(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(path, error)) from error
    yield from cut_at_paragraphs(text) if len(text.encode()) > WHOLE_BYTES else [text]


def _not_utf8(path: Path, error: UnicodeDecodeError, line: int | None = None) -> str:
    place = f"byte {error.start}" if line is None else f"line {line}"
    return f"{path} is not UTF-8 text ({place}): convert it, or take it out of the corpus"


def cut_at_paragraphs(text: str) -> Iterator[str]:
    """Cuts a long text into pieces of about 4 KB, at blank lines where there are any, else at lines, else anywhere.

    Nothing is lost: the pieces joined are the text.
    """
    piece: list[str] = []
    size = 0
    for paragraph in _paragraphs(text):
        length = len(paragraph.encode())
        if piece and size + length > PIECE_BYTES:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(paragraph)
        size += length
    if piece:
        yield "".join(piece)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.findall(r".+?(?:\n\s*\n|\Z)|\s+\Z", text, re.DOTALL):
        if len(paragraph.encode()) <= WHOLE_BYTES:
            yield paragraph
            continue
        for line in paragraph.splitlines(keepends=True):
            for start in range(0, len(line), PIECE_BYTES):
                yield line[start : start + PIECE_BYTES]


def _read_jsonl(path: Path) -> Iterator[str]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise ValueError(_not_utf8(path, error, number)) from error
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
            text = record.get("text") if isinstance(record, dict) else None
            if not isinstance(text, str):
                raise ValueError(f'{path}, line {number}: a record needs a field "text" that holds a string')
            yield text


def _read_parquet(path: Path) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet  # takes 0.3 s to import: only those who need it pay

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                raise ValueError(f'{path} has no column "text", only: {", ".join(file.schema_arrow.names)}')
            for batch in file.iter_batches(batch_size=1024, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    if text is not None and not isinstance(text, str):
                        raise ValueError(f'{path}: the column "text" does not hold strings')
                    if text is not None:
                        yield text
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is not a readable parquet file: {str(error).splitlines()[0]}") from error
