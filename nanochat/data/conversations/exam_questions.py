"""The questions of the chat tasks: from the hub, or from files of the same form in a folder."""

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
TEST = "test"  # the split that models are scored on
TRAIN = "train"  # the one that they may learn from


class Source(NamedTuple):
    """Where the questions of a task are.

    Attributes:
        repository: on the hub.
        folder: of the repository.
        columns: that a question needs.
    """

    repository: str
    folder: str
    columns: tuple[str, ...]


LEARNED_FROM = ("arc-easy", "arc-challenge", "mmlu", "gsm8k")
SOURCES = {
    **{name: Source(HUB[name].repository, HUB[name].held_out[0], HUB[name].columns) for name in LEARNED_FROM},
    "humaneval": Source("openai/openai_humaneval", "openai_humaneval", ("prompt", "test", "entry_point")),
}


def local_task(name: str, folder: Path) -> Records:
    """A task of the hub, made of the files in a folder: those with "train" in their names are learned from.

    Raises:
        ValueError: as :func:`exam_records`, and if there are none to learn from.
    """
    learned, held_out = (_local(name, SOURCES[name], folder.expanduser(), split) for split in (TRAIN, TEST))
    return Records(name, learned, held_out, HUB[name].convert, HUB[name].check)


def exam_records(name: str, folder: Path | None = None) -> Sequence[Record]:
    """All questions of a task.

    Args:
        name: one of SOURCES.
        folder: that has a folder of the task's name with its files; None takes them from the hub.

    Raises:
        ValueError: if they are not to be had, or a file is damaged, in one line.
    """
    source = SOURCES[name]
    if folder is not None:
        return _local(name, source, folder.expanduser())
    return hub_table(source.repository, source.folder, TEST, source.columns)


def has_exam(name: str, folder: Path) -> bool:
    """Whether a folder has files of a task."""
    return bool(_files(name, SOURCES[name], folder.expanduser()))


def _local(name: str, source: Source, folder: Path, split: str = TEST) -> Sequence[Record]:
    files = _files(name, source, folder, split)
    if not files:
        kind = "" if split == TEST else f" to learn from ({split} in their names)"
        raise ValueError(
            f"--data={folder} has no {name}: its files{kind} ({', '.join(SUFFIXES)}) belong into {folder / name}"
        )
    if files[0].suffix == ".parquet":
        stamps = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return to_table(files, source.columns, json.dumps(stamps))
    return [record for file in files for record in _lines(file, source.columns)]


def _files(name: str, source: Source, folder: Path, split: str = TEST) -> list[Path]:
    """The files of one form in the task's folder: those with the split in their names, or else all to be scored on."""
    if not folder.is_dir():
        raise ValueError(f"--data={folder}: there is no such folder")
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and _plain(path.name) == name]
    for place in (path / inner for path in folders for inner in ("", source.folder)):
        if not place.is_dir():
            continue
        for suffix in SUFFIXES:
            found = sorted(path for path in place.iterdir() if path.name.endswith(suffix))
            if found:
                named = [path for path in found if split in path.name.lower()]
                return named or (found if split == TEST else [])
    return []


def _plain(name: str) -> str:
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
