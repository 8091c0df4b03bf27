"""Checkpoint files: written whole or not at all, read without unpickling, and told from damaged ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

LAST = "last"
BEST = "best"
AUTO = "auto"  # --ckpt_path=auto: the last one if there is one
PREVIOUS = "previous"  # what last.ckpt was before
TEXT, CHAT = "TextDataModule", "ChatDataModule"  # under these names Lightning saves what the data of a stage says


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and reads nothing but tensors and plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes beside the target, makes sure that it is on the disk, and only then takes the old one's place.

        The old ``last.ckpt`` becomes ``previous.ckpt``.

        Raises:
            OSError: if it cannot be written; the checkpoint that was there before stays.
        """
        target = Path(path)
        work = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(work, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if target.stem == LAST and zipfile.is_zipfile(target):  # one that was cut short is not worth keeping
                _keep(target, target.with_stem(PREVIOUS))
            os.replace(work, target)
            _sync_folder(target.parent)
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
            work.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "is the disk full?"
            raise OSError(f"cannot write the checkpoint {target}: {reason}") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(path)


def _keep(path: Path, under: Path) -> None:
    """Gives a file another name as well, with no moment in which it has neither."""
    work = under.with_name(f".{under.name}.part")
    work.unlink(missing_ok=True)
    try:
        os.link(path, work)
    except OSError:  # a file system without links
        shutil.copy2(path, work)
    os.replace(work, under)


def _sync_folder(folder: Path) -> None:
    """Makes sure that the new name is on the disk, too."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):  # some network file systems cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, its tensors mapped from the file until they are used. Nothing is unpickled.

    Raises:
        ValueError: if the file is missing, cut short, or not a checkpoint, in one line.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise ValueError(f"there is no checkpoint {path}") from error
    except Exception as error:  # torch lets through whatever its readers stumble over
        raise ValueError(_damaged(path)) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is not a checkpoint of this project: it has no weights")
    return checkpoint


def load_whole_checkpoint(path: str | Path) -> dict[str, Any]:
    """As :func:`load_checkpoint`, after a look at the checksums that torch writes but does not read.

    Raises:
        ValueError: also if a byte is not what it was; with the checkpoint before this one, if that is good.
    """
    try:
        if Path(path).is_file():
            _check_checksums(path)
        return load_checkpoint(path)
    except ValueError as error:
        raise ValueError(str(error) + _offer_previous(Path(path))) from error


def _check_checksums(path: str | Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # zipfile has many kinds, one for each field of an archive that may be wrong
        raise ValueError(_damaged(path)) from error
    if broken is not None:
        raise ValueError(_damaged(path))


def _damaged(path: str | Path) -> str:
    return f"{path} is not a whole checkpoint: it is damaged, cut short, or another kind of file"


def data_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the data of the run has saved, the tokenizer among it, whichever stage of training it was.

    Raises:
        KeyError: if it is no checkpoint of this project.
    """
    state: dict[str, Any] = checkpoint[CHAT if CHAT in checkpoint else TEXT]
    return state


def _offer_previous(path: Path) -> str:
    previous = path.with_stem(PREVIOUS)
    if path.stem == PREVIOUS or not previous.is_file():
        return ""
    try:
        step = load_whole_checkpoint(previous)["global_step"]
    except (ValueError, KeyError):
        return ""
    return f"; the one before it, of step {step:,}, is whole: --ckpt_path={previous}"
