"""Corpora on the Hugging Face hub: which files they are made of, and how a file gets here.

Fetching and its cache are huggingface_hub's: HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE do what they do
everywhere. What a corpus is made of is asked once and then kept, with the commit: so a run that has its files makes no
request at all, and means the same text tomorrow.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nanochat.cache import cache_root, read_checked, write_checked

PREFIX = "hf://"
SUFFIXES = (".parquet", ".jsonl", ".txt")  # in the order of preference
CONVERTED = "refs/convert/parquet"  # the hub's own conversion, for repositories in other formats
SPLIT_NAMES = {  # what files of a split are called
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
BUSY = (429, 500, 502, 503, 504)  # answers of a hub that may do better in a while
BUSY_SECONDS = (1.0, 2.0, 4.0, 8.0)
T = TypeVar("T")


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


class HubFile(NamedTuple):
    """A file of a repository, as the hub describes it; size and sha256 are None where it does not say."""

    name: str
    size: int | None
    sha256: str | None


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
    key = hashlib.sha256(json.dumps([*address, split]).encode()).hexdigest()[:16]
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
        return _explained(
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


# ------------------------------------------------------------------------------------------------ fetching


@dataclass(frozen=True)
class HubShard:
    """A file of a corpus on the hub."""

    repository: str
    commit: str
    file: HubFile

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def key(self) -> str:
        """Changes with the file's content."""
        return hashlib.sha256(json.dumps([self.repository, self.commit, self.name]).encode()).hexdigest()[:16]

    def local(self) -> Path | None:
        """The file, if it is here and has the right size; no request is made."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.repository, self.name, revision=self.commit, repo_type="dataset")
        if not isinstance(path, str) or not Path(path).is_file():
            return None
        return Path(path) if self.file.size in (None, Path(path).stat().st_size) else None

    def fetch(self) -> tuple[Path, ...]:
        """Brings the file here, unless it is here.

        A file that arrives with another size or checksum than the hub states is fetched once more, and never kept.

        Raises:
            ValueError: if it cannot be had, in one line.
            OSError: if the disk is full.
        """
        if (path := self.local()) is not None:
            return (path,)
        what = f"{self.name} of {PREFIX}{self.repository}"
        for _ in range(2):
            path = _explained(what, self._download)
            if path is not None and self._is_whole(path):
                return (path,)
            if path is not None:
                path.resolve().unlink()  # the link in the snapshot's folder then points nowhere: not there
        raise ValueError(f"{what} arrived damaged twice: its size or checksum is not what the hub states; try again")

    def _download(self) -> Path | None:
        """The file as it arrives; None if the library notices that it is not whole."""
        from huggingface_hub import hf_hub_download

        try:
            path = hf_hub_download(
                self.repository, self.name, revision=self.commit, repo_type="dataset", force_download=True
            )
        except OSError as error:
            if "Consistency check failed" in str(error):
                return None
            raise
        return Path(path)

    def _is_whole(self, path: Path) -> bool:
        if self.file.size is not None and path.stat().st_size != self.file.size:
            return False
        if self.file.sha256 is None:
            return True
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
        return digest.hexdigest() == self.file.sha256


class Unreachable(ValueError):
    """The hub does not answer, or may not be asked."""


def _explained(what: str, ask: Callable[[], T]) -> T:
    """Asks the hub, again after a while if it is only busy; its errors become one line each.

    Args:
        what: what is wanted, for the message.
        ask: the request.
    """
    from huggingface_hub import errors

    for wait in (*BUSY_SECONDS, None):
        try:
            return ask()
        except errors.HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if wait is None or status not in BUSY:
                raise _in_one_line(what, error, status) from error
            time.sleep(wait)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
                raise
            raise _in_one_line(what, error) from error
        except Exception as error:  # the HTTP library's own, another one in each version
            raise _in_one_line(what, error) from error
    raise AssertionError


def _in_one_line(what: str, error: Exception, status: int = 0) -> ValueError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return ValueError(f"{what} is given only to those who agreed to its terms: do so, and set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(f"there is no such revision of {what}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ValueError(f"there is no {what}, or it is private and needs HF_TOKEN")
    if status == 404:
        return ValueError(f"there is no {what}")
    if status in (401, 403):
        return ValueError(f"the hub refuses {what} ({status}): set HF_TOKEN to a token that may read it")
    if status:
        why = f"the hub answers {status}"
    elif isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)):
        why = "the hub cannot be reached"
    else:
        why = " ".join(str(error).split())[:120] or type(error).__name__
    return Unreachable(
        f"{what} is not on this machine and cannot be fetched ({why}): check the network, or fetch it with `download` "
        "where there is one"
    )
