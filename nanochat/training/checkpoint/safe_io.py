"""Checkpoint files as they are written: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from nanochat.training.checkpoint.loading import LAST, PREVIOUS, load_checkpoint


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
