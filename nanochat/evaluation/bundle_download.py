"""The published bundle of CORE's tasks: fetched once from its address, checked, and unpacked into the cache."""

from __future__ import annotations

import http.client
import os
import shutil
import stat
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from nanochat.cache import atomic_folder, cache_root
from nanochat.evaluation.bundle import Bundle, open_bundle

ADDRESS = "https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip"
TIMEOUT = 20.0  # seconds in which a server that is there has answered
BLOCK = 2**20
SUFFIXES = (".yaml", ".csv", ".jsonl")  # nothing else is taken out of the archive
MOST_FILES, MOST_BYTES = 2000, 2_000_000_000  # of an archive that is what it should be: some 100, and 0.2 GB


def find_bundle(given: str | None = None) -> Bundle:
    """The bundle in a folder or in a zip file, or the published one, which is fetched unless it is here.

    Raises:
        ValueError: if it is not to be had or not a bundle, in one line that says what to do.
    """
    if given is None:
        return open_bundle(fetch())
    path = Path(given).expanduser()
    if path.is_file():
        stamp = path.stat()
        target = cache_root() / "core" / f"{path.stem}-{stamp.st_size}-{stamp.st_mtime_ns}"
        if not target.is_dir():
            unpack(path, target)
        return open_bundle(target)
    return open_bundle(path)


def fetch(address: str | None = None) -> Path:
    """The folder of the published bundle. Only what arrived whole and could be read is ever kept.

    Args:
        address: where the archive is; None for :data:`ADDRESS`.
    """
    target = cache_root() / "core" / "published"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".bundle-", suffix=".zip", dir=target.parent)
    os.close(handle)
    try:
        _download(address or ADDRESS, Path(name))
        unpack(Path(name), target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def _download(address: str, path: Path) -> None:
    elsewhere = "check the network, or give --bundle a folder with the tasks or the zip file fetched elsewhere"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, open(path, "wb") as file:
            expected = int(answer.headers.get("Content-Length") or 0)
            with tqdm(
                total=expected or None, unit="B", unit_scale=True, desc="CORE's tasks", leave=False, file=sys.stderr
            ) as bar:
                while block := answer.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        raise ValueError(f"{address} answers {error.code}: {elsewhere}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        why = " ".join(str(getattr(error, "reason", error)).split())
        raise ValueError(f"the tasks of CORE cannot be fetched from {address} ({why}): {elsewhere}") from error
    if expected and path.stat().st_size != expected:
        raise ValueError(f"{address} arrived cut short: {path.stat().st_size:,} of {expected:,} bytes; try again")


def unpack(archive: Path, target: Path) -> None:
    """Takes a bundle out of a zip file into a new folder, which is there whole or not at all.

    Raises:
        ValueError: if the file is damaged, is no bundle, or would write anywhere else.
    """
    try:
        with zipfile.ZipFile(archive) as opened, atomic_folder(target) as work:
            for entry, name in _members(archive, opened):
                path = work / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, open(path, "wb") as file:
                    shutil.copyfileobj(source, file, BLOCK)  # which compares the checksum
            open_bundle(work)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{archive} is damaged, or no zip file: {error}") from error


def _members(archive: Path, opened: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
    """What is to be taken out, with its place in the folder.

    Raises:
        ValueError: if anything in the archive points out of it, or is too large.
    """
    entries = opened.infolist()
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise ValueError(f"{archive} is no bundle of CORE: it holds far more than one does")
    wanted = []
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        is_link = stat.S_ISLNK(entry.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or ":" in entry.filename or is_link:
            raise ValueError(f"{archive} is not to be trusted: it would write to {entry.filename}")
        if not entry.is_dir() and name.suffix in SUFFIXES and not name.name.startswith("."):
            wanted.append((entry, Path(*name.parts)))
    yield from wanted
