"""Lists the caches and removes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nanochat.cache import cache_root, file_sizes
from nanochat.housekeeping.removal import remove_folder
from nanochat.text_table import format_table
from nanochat.training.console import size
from nanochat.wording import plural

CACHES = {  # folders in the cache folder and their contents; nothing else there is ever removed
    "tokens": "tokenized corpora",
    "tokenizers": "trained tokenizers",
    "corpora": "the embedded corpus, and statistics of other corpora",
    "tables": "rows of parquet files, for memory mapping",
    "hub": "file lists of datasets on the hub",
    "core": "the CORE tasks",
    "compiled": "code compiled by torch.compile",
    "native": "the compiled C++ forward pass",
}


class Cache(NamedTuple):
    """One cache. (The attributes are the fields of ``runs --caches --json``.)

    Attributes:
        name: name of its folder, a key of :data:`CACHES`.
        what: description of its contents.
        folder: path of its folder.
        size_bytes: total size of its files.
        files: number of files.
    """

    name: str
    what: str
    folder: Path
    size_bytes: int
    files: int


def find_caches() -> list[Cache]:
    """The existing caches, the largest last."""
    found = []
    for name, what in CACHES.items():
        folder = cache_root() / name
        if folder.is_dir() and not folder.is_symlink():
            sizes = file_sizes(folder)
            found.append(Cache(name, what, folder, sum(sizes), len(sizes)))
    return sorted(found, key=lambda cache: cache.size_bytes)


def select_caches(names: Sequence[str]) -> list[Cache]:
    """The existing caches with these names; all of them if ``names`` is empty.

    Raises:
        ValueError: if a name is not in :data:`CACHES`.
    """
    for name in names:
        if name not in CACHES:
            raise ValueError(f"there is no cache {name}: give one or more of {', '.join(CACHES)}")
    return [cache for cache in find_caches() if not names or cache.name in names]


def remove_caches(caches: Sequence[Cache]) -> int:
    """Removes caches and returns the freed bytes. They are rebuilt when needed."""
    for cache in caches:
        remove_folder(cache.folder)
    return sum(cache.size_bytes for cache in caches)


def caches_table(caches: Sequence[Cache]) -> str:
    """One line per cache, and the total size."""
    rows = [(cache.name, size(cache.size_bytes), plural(cache.files, "file"), cache.what) for cache in caches]
    total = f"{size(sum(cache.size_bytes for cache in caches))} in {cache_root()}"
    return f"{format_table(rows, right=(1, 2))}\n\n{total}" if rows else total
