"""The CheckpointIO plugin: writes checkpoints atomically, and executes no pickles when it reads them."""

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
    """Writes a checkpoint completely or not at all; reads only tensors and plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a temporary file in the same folder, flushes it to the disk, and renames it.

        The old ``last.ckpt`` becomes ``previous.ckpt``.

        Raises:
            OSError: if it cannot be written; the old checkpoint stays.
        """
        target = Path(path)
        temporary = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if target.stem == LAST and zipfile.is_zipfile(target):  # a truncated one must not replace previous.ckpt
                _copy_name(target, target.with_stem(PREVIOUS))
            os.replace(temporary, target)
            _sync_folder(target.parent)
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError when the disk is full
            temporary.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "is the disk full?"
            raise OSError(f"cannot write the checkpoint {target}: {reason}") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(path)


def _copy_name(path: Path, other: Path) -> None:
    """Gives a file a second name, which replaces an older file of that name atomically."""
    temporary = other.with_name(f".{other.name}.part")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # the file system has no hard links
        shutil.copy2(path, temporary)
    os.replace(temporary, other)


def _sync_folder(folder: Path) -> None:
    """Flushes the renaming to the disk."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):  # some network file systems do not support it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
