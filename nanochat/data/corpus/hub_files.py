"""A file of a corpus on the Hugging Face hub, and its verified download.

Downloads and their cache are huggingface_hub's, so HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE apply.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from nanochat.cache import short_hash

PREFIX = "hf://"
RETRIED_STATUS = (429, 500, 502, 503, 504)  # HTTP status codes of a busy hub
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0)
T = TypeVar("T")


class HubFile(NamedTuple):
    """A file of a repository, as the hub lists it. Size in bytes and sha256 are None if the hub states none."""

    name: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class HubShard:
    """A text shard on the hub: one file of a repository at one commit."""

    repository: str
    commit: str
    file: HubFile

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def key(self) -> str:
        """Short hash that identifies the file and its version."""
        return short_hash([self.repository, self.commit, self.name])

    def local(self) -> Path | None:
        """The file in the local cache, if it has the right size; else None. Makes no request."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.repository, self.name, revision=self.commit, repo_type="dataset")
        if not isinstance(path, str) or not Path(path).is_file():
            return None
        return Path(path) if self.file.size in (None, Path(path).stat().st_size) else None

    def fetch(self) -> tuple[Path, ...]:
        """Downloads the file, unless it is in the local cache.

        A file with another size or checksum than the hub states is deleted, and downloaded once more.

        Raises:
            ValueError: if the download fails, in one line.
            OSError: if the disk is full.
        """
        if (path := self.local()) is not None:
            return (path,)
        what = f"{self.name} of {PREFIX}{self.repository}"
        for _ in range(2):
            path = call_hub(what, self._download)
            if path is not None and self._is_whole(path):
                return (path,)
            if path is not None:
                path.resolve().unlink()  # leaves a dangling link in the snapshot, which counts as missing
        raise ValueError(f"{what} arrived damaged twice: its size or checksum is not what the hub states; try again")

    def _download(self) -> Path | None:
        """Downloads the file; None if the library finds it incomplete."""
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


class HubUnreachable(ValueError):
    """The hub does not respond, or offline mode is set."""


def call_hub(what: str, request: Callable[[], T]) -> T:
    """Makes a request to the hub, with retries if the hub is busy.

    Args:
        what: the requested thing, for errors.
        request: makes the request.

    Raises:
        ValueError: if the request fails, in one line.
        OSError: if the disk is full or not writable.
    """
    from huggingface_hub import errors

    for wait in (*RETRY_SECONDS, None):
        try:
            return request()
        except errors.HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if wait is None or status not in RETRIED_STATUS:
                raise _to_error(what, error, status) from error
            time.sleep(wait)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
                raise
            raise _to_error(what, error) from error
        except Exception as error:  # of the HTTP library, which differs between versions
            raise _to_error(what, error) from error
    raise AssertionError


def _to_error(what: str, error: Exception, status: int = 0) -> ValueError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return ValueError(f"{what} is given only to those who agreed to its terms: agree on its page, and set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(f"there is no such revision of {what}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ValueError(f"there is no {what}, or it is private and needs HF_TOKEN")
    if status == 404:
        return ValueError(f"there is no {what}")
    if status in (401, 403):
        return ValueError(f"the hub refuses {what} ({status}): set HF_TOKEN to a token that may read it")
    if status:
        why = f"the hub responds with {status}"
    elif isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)):
        why = "the hub cannot be reached"
    else:
        why = " ".join(str(error).split())[:120] or type(error).__name__
    return HubUnreachable(
        f"{what} is not on this machine and cannot be fetched ({why}): check the network, or fetch it with `download` "
        "where there is one"
    )
