"""The questions of the chat tasks, from the hub or from files of the same format in a folder."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nanochat.data.conversations.arrow_table import to_table
from nanochat.data.conversations.task_sources import HUB, hub_table
from nanochat.tasks.records import Record, Records

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
TEST = "test"  # the split to score on
TRAIN = "train"  # the split to train on


class ExamSource(NamedTuple):
    """Where the questions of a task are.

    Attributes:
        repository: on the hub, owner/name.
        folder: in the repository.
        columns: the columns that a question needs.
    """

    repository: str
    folder: str
    columns: tuple[str, ...]


TRAINABLE = ("arc-easy", "arc-challenge", "mmlu", "gsm8k")
SOURCES = {
    **{name: ExamSource(HUB[name].repository, HUB[name].held_out[0], HUB[name].columns) for name in TRAINABLE},
    "humaneval": ExamSource("openai/openai_humaneval", "openai_humaneval", ("prompt", "test", "entry_point")),
}


def local_task(name: str, folder: Path) -> Records:
    """A task of the hub from files in a folder. Files with "train" in their names are to train on.

    Raises:
        ValueError: as :func:`exam_records`, and if there are no files to train on.
    """
    train, held_out = (_local(name, SOURCES[name], folder.expanduser(), split) for split in (TRAIN, TEST))
    return Records(name, train, held_out, HUB[name].convert, HUB[name].check)


def exam_records(name: str, folder: Path | None = None) -> Sequence[Record]:
    """All questions of a task.

    Args:
        name: one of SOURCES.
        folder: folder with a subfolder of the task's name that holds its files; None takes them from the hub.

    Raises:
        ValueError: if they are not available or a file is damaged, in one line.
    """
    source = SOURCES[name]
    if folder is not None:
        return _local(name, source, folder.expanduser())
    return hub_table(source.repository, source.folder, TEST, source.columns)


def has_exam(name: str, folder: Path) -> bool:
    """Whether a folder has files of a task."""
    return bool(_files(name, SOURCES[name], folder.expanduser()))


def _local(name: str, source: ExamSource, folder: Path, split: str = TEST) -> Sequence[Record]:
    files = _files(name, source, folder, split)
    if not files:
        kind = "" if split == TEST else f" to train on ({split} in their names)"
        raise ValueError(
            f"--data={folder} has no {name}: put its files{kind} ({', '.join(SUFFIXES)}) into {folder / name}"
        )
    if files[0].suffix == ".parquet":
        stamps = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return to_table(files, source.columns, json.dumps(stamps))
    return [record for file in files for record in _lines(file, source.columns)]


def _files(name: str, source: ExamSource, folder: Path, split: str = TEST) -> list[Path]:
    """The task's files of one format with the split in their names. If none has it, all files are of the test split."""
    if not folder.is_dir():
        raise ValueError(f"--data={folder}: there is no such folder")
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and _normalised(path.name) == name]
    for place in (path / inner for path in folders for inner in ("", source.folder)):
        if not place.is_dir():
            continue
        for suffix in SUFFIXES:
            found = sorted(path for path in place.iterdir() if path.name.endswith(suffix))
            if found:
                named = [path for path in found if split in path.name.lower()]
                return named or (found if split == TEST else [])
    return []


def _normalised(name: str) -> str:
    return name.lower().replace("_", "-")


def _lines(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _record(line, columns, f"{path}, line {number}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _record(line: bytes, columns: Sequence[str], where: str) -> Record:
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON in UTF-8") from error
    missing = [name for name in columns if not isinstance(record, dict) or record.get(name) is None]
    if missing:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    return dict(record)
