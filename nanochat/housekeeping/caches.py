"""The caches: what they hold, and how they are emptied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nanochat.cache import cache_root, file_sizes
from nanochat.housekeeping.removal import remove_folder
from nanochat.text_table import format_table
from nanochat.training.console import size
from nanochat.wording import plural

CACHES = {  # below the cache's folder: nothing else there is ever removed
    "tokens": "texts as tokens",
    "tokenizers": "vocabularies",
    "corpora": "the embedded corpus, and what corpora are made of",
    "tables": "conversations of tables read from files",
    "hub": "what corpora on the hub are made of",
    "core": "the tasks of CORE",
    "compiled": "what torch.compile has made",
    "native": "the forward pass in C++, compiled",
}


class Cache(NamedTuple):
    """One of them.

    Attributes:
        name: of its folder.
        what: it holds.
        folder: where.
        size_bytes: of its files.
        files: how many.
    """

    name: str
    what: str
    folder: Path
    size_bytes: int
    files: int


def find_caches() -> list[Cache]:
    """Those that there are, the largest last."""
    found = []
    for name, what in CACHES.items():
        folder = cache_root() / name
        if folder.is_dir() and not folder.is_symlink():
            sizes = file_sizes(folder)
            found.append(Cache(name, what, folder, sum(sizes), len(sizes)))
    return sorted(found, key=lambda cache: cache.size_bytes)


def choose_caches(names: Sequence[str]) -> list[Cache]:
    """Those of the names; all, if there are none.

    Raises:
        ValueError: if one is unknown.
    """
    for name in names:
        if name not in CACHES:
            raise ValueError(f"there is no cache {name}: one of {', '.join(CACHES)}")
    return [cache for cache in find_caches() if not names or cache.name in names]


def clear(caches: Sequence[Cache]) -> int:
    """Removes them, and returns how many bytes that frees. Whatever needs one makes it again."""
    for cache in caches:
        remove_folder(cache.folder)
    return sum(cache.size_bytes for cache in caches)


def table(caches: Sequence[Cache]) -> str:
    """A line for each."""
    rows = [(cache.name, size(cache.size_bytes), plural(cache.files, "file"), cache.what) for cache in caches]
    total = f"{size(sum(cache.size_bytes for cache in caches))} in {cache_root()}"
    return f"{format_table(rows, right=(1, 2))}\n\n{total}" if rows else total
