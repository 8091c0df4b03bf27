"""The cache: what is computed once and kept between runs. All of it may be deleted at any time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_root() -> Path:
    """``~/.cache/nanochat``, or where the environment variable NANOCHAT_CACHE points."""
    return Path(os.environ.get("NANOCHAT_CACHE") or Path.home() / ".cache" / "nanochat").expanduser()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
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


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a reader finds either the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, work = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(work, path)
    except BaseException:
        Path(work).unlink(missing_ok=True)
        raise
