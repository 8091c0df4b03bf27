"""Corpora on the Hugging Face hub: where they are, and which files they are made of.

What a corpus is made of is asked once and then kept, with the commit: so a run that has its files makes no request at
all, and means the same text tomorrow.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nanochat.cache import cache_root, read_checked, short_hash, write_checked
from nanochat.data.corpus.hub_files import PREFIX, HubFile, HubShard, Unreachable, explained

SUFFIXES = (".parquet", ".jsonl", ".txt")  # in the order of preference
CONVERTED = "refs/convert/parquet"  # the hub's own conversion, for repositories in other formats
SPLIT_NAMES = {  # what files of a split are called
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


class Address(NamedTuple):
    """Where a corpus is on the hub.

    Attributes:
        repository: owner/name.
        revision: a branch, a tag or a commit.
        folder: of the repository; "" for all of it.
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
    """What a corpus is made of.

    Attributes:
        repository: owner/name.
        commit: the state of the repository that is meant, for good.
        train: files to train on, in their order.
        held_out: files of held-out text; empty where the corpus has none.
    """

    repository: str
    commit: str
    train: tuple[HubFile, ...]
    held_out: tuple[HubFile, ...]

    def shard(self, file: HubFile) -> HubShard:
        """One of these files, which can be fetched."""
        return HubShard(self.repository, self.commit, file)


def parse_address(source: str) -> Address | None:
    """The address behind a known name or ``hf://owner/name[@revision][/folder]``; None if it is neither.

    Raises:
        ValueError: if it begins with hf:// and does not go on like that.
    """
    if source in KNOWN:
        return KNOWN[source]
    if not source.startswith(PREFIX):
        return None
    path = source.removeprefix(PREFIX).removeprefix("datasets/")
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@((?:refs/[\w-]+/)?[\w.-]+))?(?:/(.+?))?/?", path)
    if match is None:
        raise ValueError(f"{source} is no address on the hub: write hf://owner/name or hf://owner/name/folder")
    repository, revision, folder = match.groups()
    return Address(repository, revision or "main", folder or "")


def list_corpus(address: Address, split: str, again: bool = False) -> Listing:
    """What the corpus is made of, as kept from the last time it was asked.

    Args:
        address: where it is.
        split: which split to train on.
        again: ask the hub even so; what is kept is used only if the hub cannot be reached.

    Raises:
        ValueError: if there is no such corpus or split, or the hub cannot be reached, in one line.
    """
    key = short_hash([*address, split])
    path = cache_root() / "hub" / f"{address.repository.replace('/', '--')}-{key}.json"
    known = _read_listing(path)
    if known is not None and not again:
        return known
    try:
        listing = _ask(address, split)
    except Unreachable:
        if known is None:
            raise
        return known
    write_checked(path, listing._asdict())
    return listing


def _read_listing(path: Path) -> Listing | None:
    try:
        kept = read_checked(path)
        train, held_out = (tuple(HubFile(*file) for file in kept[part]) for part in ("train", "held_out"))
        return Listing(kept["repository"], kept["commit"], train, held_out)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ask(address: Address, split: str) -> Listing:
    from huggingface_hub import HfApi

    def info(revision: str) -> Any:
        return explained(
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
        raise ValueError(f"{PREFIX}{address.repository} has no split {split}: its files are {_some(files)}")
    held_out = [f for f in choose_split(files, "validation", patterns) if f not in train]
    return Listing(address.repository, found.sha, tuple(train), tuple(held_out))


def _some(files: Sequence[HubFile]) -> str:
    names = [file.name for file in files[:3]]
    return ", ".join(names) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _text_files(info: Any, folder: str) -> list[HubFile]:
    """The repository's files of the most suitable kind, in the order of their names."""
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
    """The files of each split, where the repository's card says them (its first configuration, or "default")."""
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
    """The files of a split: as the card says; else by their names; if no name says a split, all are for training."""
    if split in patterns:
        chosen = [f for f in files if any(fnmatch.fnmatch(f.name, pattern) for pattern in patterns[split])]
        if chosen:
            return chosen
    by_name = [file for file in files if _says(file.name, SPLIT_NAMES.get(split, (split,)))]
    every_word = [word for words in SPLIT_NAMES.values() for word in words]
    if not by_name and split == "train":
        return [file for file in files if not _says(file.name, every_word)]
    return by_name


def _says(name: str, words: Sequence[str]) -> bool:
    return any(re.search(rf"(?:^|[/_.-]){word}(?:$|[/_.-])", name, re.IGNORECASE) for word in words)
