"""Checkpoints: when they are written, how, and how a damaged one is told from a good one."""

from __future__ import annotations

import os
import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from nanochat.training.steps import ends_step

FOLDER = "checkpoints"
LAST = "last"
BEST = "best"


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and reads nothing but tensors and plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes beside the target, makes sure that it is on the disk, and only then takes the old one's place.

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
            os.replace(work, target)
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
            work.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "is the disk full?"
            raise OSError(f"cannot write the checkpoint {target}: {reason}") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, its tensors mapped from the file until they are used. Nothing is unpickled.

    Raises:
        ValueError: if the file is missing, cut short, or not a checkpoint, in one line.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise ValueError(f"there is no checkpoint {path}") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path} is not a whole checkpoint: it is damaged, cut short, or another kind of file") from (
            error
        )
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path} is not a checkpoint of this project: it has no weights")
    return checkpoint


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``: where to go on, written now and then and at the end.

    Args:
        every_n_train_steps: how often, in steps; null leaves it to the clock.
        every_n_minutes: how often, by the clock; null leaves it to the steps.
    """

    def __init__(self, every_n_train_steps: int | None = None, every_n_minutes: float | None = 5.0) -> None:
        if every_n_train_steps is not None:
            every_n_minutes = None  # Lightning's class takes one of the two
        super().__init__(
            filename=LAST,
            every_n_train_steps=every_n_train_steps,
            train_time_interval=timedelta(minutes=every_n_minutes) if every_n_minutes is not None else None,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        # The last step is saved here and not at the end of the run, from where Lightning would count one step more.
        if trainer.global_step == trainer.max_steps and ends_step(trainer, batch_idx):
            self._save_unless_saved(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what a clock has ended."""
        self._save_unless_saved(trainer)

    def _save_unless_saved(self, trainer: Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):  # Lightning's: saved already, or a fast_dev_run
            self.save_now(trainer)

    def save_now(self, trainer: Trainer) -> Path:
        """Writes ``last.ckpt`` at once, on every rank together, and says where."""
        path = Path(self.dirpath or FOLDER, f"{LAST}.ckpt")
        trainer.save_checkpoint(path)
        self._last_global_step_saved = trainer.global_step
        self.best_model_path = str(path)
        return path


def best_checkpoint() -> ModelCheckpoint:
    """``best.ckpt``: the model with the lowest val/bpb so far."""
    return ModelCheckpoint(filename=BEST, monitor="val/bpb", mode="min", enable_version_counter=False)


def find_checkpoint(which: str, runs: Path) -> Path:
    """The ``last`` or ``best`` checkpoint of the newest run that has one.

    Args:
        which: "last" or "best".
        runs: the folder of all runs of one name.

    Raises:
        ValueError: if no run has one.
    """
    versions = [(int(p.name.split("_")[1]), p) for p in runs.glob("version_*") if p.name.split("_")[1].isdigit()]
    for _, version in sorted(versions, reverse=True):
        path = version / FOLDER / f"{which}.ckpt"
        if path.is_file():
            return path
    raise ValueError(f"there is no {which} checkpoint below {runs}: train first, or give --ckpt_path a file")
