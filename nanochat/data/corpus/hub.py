"""Corpora on the Hugging Face hub: their addresses, and the lists of their files.

The list of files is requested once and cached with its commit. So a run that has its files makes no request, and later
runs use the same text.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nanochat.cache import cache_root, read_checked, short_hash, write_checked
from nanochat.data.corpus.hub_files import PREFIX, HubFile, HubShard, HubUnreachable, call_hub

SUFFIXES = (".parquet", ".jsonl", ".txt")  # in the order of preference
CONVERTED = "refs/convert/parquet"  # the hub's own conversion, for repositories in other formats
SPLIT_NAMES = {  # words in the names of the files of a split
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


class Address(NamedTuple):
    """The address of a corpus on the hub.

    Attributes:
        repository: owner/name.
        revision: a branch, a tag or a commit.
        folder: in the repository; "" for all of it.
        last_is_held_out: whether the last file is the validation split, by convention.
    """

    repository: str
    revision: str = "main"
    folder: str = ""
    last_is_held_out: bool = False


KNOWN = {
    "climbmix": Address("karpathy/climbmix-400b-shuffle", last_is_held_out=True),
    "fineweb-edu": Address("karpathy/fineweb-edu-100b-shuffle", last_is_held_out=True),
    "tinystories": Address("roneneldan/TinyStories"),
}


class Listing(NamedTuple):
    """The files of a corpus.

    Attributes:
        repository: owner/name.
        commit: of the repository.
        train: files to train on, in their order.
        held_out: files of held-out text; empty if the corpus has none.
    """

    repository: str
    commit: str
    train: tuple[HubFile, ...]
    held_out: tuple[HubFile, ...]

    def shard(self, file: HubFile) -> HubShard:
        """A text shard of one of these files."""
        return HubShard(self.repository, self.commit, file)


def parse_address(source: str) -> Address | None:
    """The address of a known name or of ``hf://owner/name[@revision][/folder]``; None if it is neither.

    Raises:
        ValueError: if it begins with hf:// and is not of this form.
    """
    if source in KNOWN:
        return KNOWN[source]
    if not source.startswith(PREFIX):
        return None
    path = source.removeprefix(PREFIX).removeprefix("datasets/")
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@((?:refs/[\w-]+/)?[\w.-]+))?(?:/(.+?))?/?", path)
    if match is None:
        raise ValueError(f"{source} is not an address on the hub: write hf://owner/name or hf://owner/name/folder")
    repository, revision, folder = match.groups()
    return Address(repository, revision or "main", folder or "")


def list_corpus(address: Address, split: str, refresh: bool = False) -> Listing:
    """The files of a corpus, from the cache if possible.

    Args:
        address: of the corpus.
        split: the split to train on.
        refresh: whether to request the list again. The cached one is used only if the hub cannot be reached.

    Raises:
        ValueError: if there is no such corpus or split, or the hub cannot be reached, in one line.
    """
    key = short_hash([*address, split])
    path = cache_root() / "hub" / f"{address.repository.replace('/', '--')}-{key}.json"
    cached = _read_listing(path)
    if cached is not None and not refresh:
        return cached
    try:
        listing = _request(address, split)
    except HubUnreachable:
        if cached is None:
            raise
        return cached
    write_checked(path, listing._asdict())
    return listing


def _read_listing(path: Path) -> Listing | None:
    try:
        fields = read_checked(path)
        train, held_out = (tuple(HubFile(*file) for file in fields[name]) for name in ("train", "held_out"))
        return Listing(fields["repository"], fields["commit"], train, held_out)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _request(address: Address, split: str) -> Listing:
    from huggingface_hub import HfApi

    def info(revision: str) -> Any:
        return call_hub(
            f"corpus {PREFIX}{address.repository}",
            lambda: HfApi().dataset_info(address.repository, revision=revision, files_metadata=True, timeout=30),
        )

    found = info(address.revision)
    files = _text_files(found, address.folder)
    if not files and address.revision == "main":
        found = info(CONVERTED)
        files = _text_files(found, address.folder)
    if not files:
        where = f"the folder {address.folder} of " if address.folder else ""
        raise ValueError(f"{where}{PREFIX}{address.repository} has no {', '.join(SUFFIXES)} files")
    if address.last_is_held_out and split == "train" and len(files) > 1:
        return Listing(address.repository, found.sha, tuple(files[:-1]), tuple(files[-1:]))
    patterns = _card_patterns(getattr(found, "card_data", None))
    train = choose_split(files, split, patterns)
    if not train:
        raise ValueError(f"{PREFIX}{address.repository} has no split {split}: its files are {_first_names(files)}")
    held_out = [f for f in choose_split(files, "validation", patterns) if f not in train]
    return Listing(address.repository, found.sha, tuple(train), tuple(held_out))


def _first_names(files: Sequence[HubFile]) -> str:
    names = [file.name for file in files[:3]]
    return ", ".join(names) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _text_files(info: Any, folder: str) -> list[HubFile]:
    """The repository's files of the preferred kind, sorted by name."""
    files = []
    for file in info.siblings or ():
        lfs = getattr(file, "lfs", None)
        sha256 = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
        if file.rfilename.startswith(f"{folder}/" if folder else "") and not file.rfilename.startswith("."):
            files.append(HubFile(file.rfilename, file.size, sha256))
    for suffix in SUFFIXES:
        if chosen := sorted(file for file in files if file.name.lower().endswith(suffix)):
            return chosen
    return []


def _card_patterns(card: Any) -> dict[str, list[str]]:
    """The file patterns of each split in the repository's card ("default" or its first configuration); or empty."""
    try:
        configurations = card["configs"] if card else []
        chosen = next((c for c in configurations if c.get("config_name") == "default"), configurations[0])
        patterns: dict[str, list[str]] = {}
        for entry in chosen["data_files"]:
            paths = entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
            patterns.setdefault(entry["split"], []).extend(paths)
        return patterns
    except (KeyError, IndexError, TypeError, AttributeError):
        return {}


def choose_split(files: Sequence[HubFile], split: str, patterns: dict[str, list[str]]) -> list[HubFile]:
    """The files of a split: by the card's patterns, else by their names; "train" also takes names without a split."""
    if split in patterns:
        chosen = [f for f in files if any(fnmatch.fnmatch(f.name, pattern) for pattern in patterns[split])]
        if chosen:
            return chosen
    by_name = [file for file in files if _has_word(file.name, SPLIT_NAMES.get(split, (split,)))]
    split_words = [word for words in SPLIT_NAMES.values() for word in words]
    if not by_name and split == "train":
        return [file for file in files if not _has_word(file.name, split_words)]
    return by_name


def _has_word(name: str, words: Sequence[str]) -> bool:
    return any(re.search(rf"(?:^|[/_.-]){word}(?:$|[/_.-])", name, re.IGNORECASE) for word in words)
