"""The cache: what is computed once and kept between runs. All of it may be deleted at any time."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def cache_root() -> Path:
    """``~/.cache/nanochat``, or where the environment variable NANOCHAT_CACHE points.

    Raises:
        ValueError: if the user has no home folder, as in some containers.
    """
    try:
        return Path(os.environ.get("NANOCHAT_CACHE") or "~/.cache/nanochat").expanduser()
    except RuntimeError as error:
        raise ValueError("this user has no home folder: set NANOCHAT_CACHE to a folder of yours") from error


def short_hash(facts: object) -> str:
    """16 letters that depend on plain values alone: by them the same thing is found again."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def file_sizes(folder: Path) -> list[int]:
    """The bytes of every file below a folder, whatever goes away meanwhile. What a link leads to is not counted."""
    found = []
    for above, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                found.append(os.lstat(os.path.join(above, name)).st_size)
    return found


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``target`` if all goes well and vanishes if anything fails.

    So an interrupted or failed preparation never leaves a folder that is later taken for whole. Of two processes
    that prepare the same thing at once, the later one's folder is dropped: both are equal.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield work
        try:
            work.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_checked(path: Path, content: Any) -> None:
    """Writes plain values as JSON, with a checksum."""
    text = json.dumps(content)
    write_atomically(path, json.dumps({"checksum": zlib.crc32(text.encode()), "content": text}))


def read_checked(path: Path) -> Any:
    """Reads what :func:`write_checked` wrote.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is damaged.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        content, checksum = kept["content"], kept["checksum"]
        if zlib.crc32(content.encode()) == checksum:
            return json.loads(content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise ValueError(f"{path} is damaged")


def checksum_of(path: Path) -> int:
    """Of a file of any size: some 20 ms for as many megabytes."""
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(2**20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a reader finds either the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # not by tempfile, whose files nobody else may read: these are results, which one shares
    work = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(work, "x", encoding="utf-8") as file:
            file.write(text)
        os.replace(work, path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
