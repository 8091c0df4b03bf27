"""Downloads the published bundle of CORE tasks, checks it and unpacks it into the cache."""

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

BUNDLE_URL = "https://karpathy-public.s3.us-west-2.amazonaws.com/eval_bundle.zip"
TIMEOUT = 20.0  # seconds
BLOCK = 2**20
SUFFIXES = (".yaml", ".csv", ".jsonl")  # no other files are extracted
MAX_FILES, MAX_BYTES = 2000, 2_000_000_000  # the published archive has about 100 files and 0.2 GB


def find_bundle(given: str | None = None) -> Bundle:
    """Opens a bundle.

    Args:
        given: a folder or a zip file; None for the published bundle, which is downloaded once.

    Raises:
        ValueError: if it cannot be downloaded or is not a bundle.
    """
    if given is None:
        return open_bundle(download_bundle())
    path = Path(given).expanduser()
    if path.is_file():
        stamp = path.stat()
        target = cache_root() / "core" / f"{path.stem}-{stamp.st_size}-{stamp.st_mtime_ns}"
        if not target.is_dir():
            unpack(path, target)
        return open_bundle(target)
    return open_bundle(path)


def download_bundle(url: str | None = None) -> Path:
    """The cached folder of the published bundle, downloaded if necessary.

    Only a complete and valid bundle is kept.

    Args:
        url: address of the archive; None for :data:`BUNDLE_URL`.

    Raises:
        ValueError: if the download fails or the archive is invalid.
    """
    target = cache_root() / "core" / "published"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".bundle-", suffix=".zip", dir=target.parent)
    os.close(handle)
    try:
        _download(url or BUNDLE_URL, Path(name))
        unpack(Path(name), target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def _download(url: str, path: Path) -> None:
    advice = "check the network, or give --bundle a folder with the tasks or a zip file downloaded on another machine"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(path, "wb") as file:
            expected = int(response.headers.get("Content-Length") or 0)
            with tqdm(
                total=expected or None, unit="B", unit_scale=True, desc="CORE tasks", leave=False, file=sys.stderr
            ) as bar:
                while block := response.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        raise ValueError(f"{url} returned HTTP status {error.code}: {advice}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise ValueError(f"the CORE tasks cannot be downloaded from {url} ({reason}): {advice}") from error
    size = path.stat().st_size
    if expected and size != expected:
        raise ValueError(f"the download of {url} is incomplete, {size:,} of {expected:,} bytes: try again")


def unpack(archive: Path, target: Path) -> None:
    """Extracts a bundle into a new folder. If that fails, the folder is not created.

    Raises:
        ValueError: if the archive is damaged, is not a bundle, or has paths outside of the folder.
    """
    try:
        with zipfile.ZipFile(archive) as opened, atomic_folder(target) as work:
            for entry, name in _members(archive, opened):
                path = work / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, open(path, "wb") as file:
                    shutil.copyfileobj(source, file, BLOCK)  # reading also verifies the checksum
            open_bundle(work)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{archive} is damaged or not a zip file: {error}") from error


def _members(archive: Path, opened: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
    """The entries to extract, each with its relative path.

    Raises:
        ValueError: if the archive is too large, or an entry is a link or has a path outside of the folder.
    """
    entries = opened.infolist()
    if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise ValueError(f"{archive} is not a CORE bundle: it is far larger than one")
    wanted = []
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        is_link = stat.S_ISLNK(entry.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or ":" in entry.filename or is_link:
            raise ValueError(f"{archive} is unsafe and was not unpacked: it would write to {entry.filename}")
        if not entry.is_dir() and name.suffix in SUFFIXES and not name.name.startswith("."):
            wanted.append((entry, Path(*name.parts)))
    yield from wanted
