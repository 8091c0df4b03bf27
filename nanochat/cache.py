"""The cache folder, and files that are written atomically and checked when read.

The cache holds data that is computed once and reused by later runs. All of it may be deleted at any time.
"""

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
    """The cache folder: ``~/.cache/nanochat``, or the value of the environment variable NANOCHAT_CACHE.

    Raises:
        ValueError: if the user has no home folder, as in some containers.
    """
    try:
        return Path(os.environ.get("NANOCHAT_CACHE") or "~/.cache/nanochat").expanduser()
    except RuntimeError as error:
        raise ValueError("this user has no home folder: set NANOCHAT_CACHE to a folder for the cache") from error


def short_hash(facts: object) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of ``facts`` as JSON: a key for cache entries."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def file_sizes(folder: Path) -> list[int]:
    """Sizes in bytes of all files below a folder. Links are not followed; files deleted during the walk are skipped."""
    sizes = []
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                sizes.append(os.lstat(os.path.join(parent, name)).st_size)
    return sizes


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``target`` on success and deleted on an exception.

    An interrupted or failed preparation never leaves an incomplete ``target``. If two processes prepare the same
    content at once, the second one's folder is discarded: both are equal.
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
    """Writes JSON-serialisable content as a JSON file with a CRC-32 checksum, atomically."""
    text = json.dumps(content)
    write_atomically(path, json.dumps({"checksum": zlib.crc32(text.encode()), "content": text}))


def read_checked(path: Path) -> Any:
    """Reads a file written by :func:`write_checked`.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is damaged.
    """
    try:
        envelope = json.loads(path.read_text(encoding="utf-8"))
        content, checksum = envelope["content"], envelope["checksum"]
        if zlib.crc32(content.encode()) == checksum:
            return json.loads(content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise ValueError(f"{path} is damaged")


def checksum_of(path: Path) -> int:
    """The CRC-32 of a file of any size, read in blocks; about 1 ms per megabyte."""
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(2**20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def write_atomically(path: Path, text: str) -> None:
    """Replaces a text file in one step: a reader finds either the old or the new content, complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # not tempfile, whose files only their owner can read: results are shared, with the permissions of the umask
    work = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(work, "x", encoding="utf-8") as file:
            file.write(text)
        os.replace(work, path)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
