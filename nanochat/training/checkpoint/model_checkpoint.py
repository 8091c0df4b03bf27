"""Lightning's ModelCheckpoint as this project uses it: ``last.ckpt`` for resuming, ``best.ckpt`` by a score."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from nanochat.runs import CHECKPOINTS
from nanochat.training.any_rank import DelayedAnyRank
from nanochat.training.checkpoint.loading import BEST, LAST
from nanochat.training.run_logger import RunLogger
from nanochat.training.trainer_state import ends_step


class LastCheckpoint(ModelCheckpoint):
    """Writes ``last.ckpt``, to resume from, periodically and at the end; the one before becomes ``previous.ckpt``.

    A checkpoint is written immediately before the next step, when the validation and the logs of the last step are
    finished. So a run that is resumed after a ``kill -9`` has the same logs as an uninterrupted one.

    Args:
        every_n_train_steps: number of steps between two checkpoints; null for none by steps.
        every_n_minutes: minutes between two checkpoints; null for none by time. Both can be set.
    """

    def __init__(self, every_n_train_steps: int | None = None, every_n_minutes: float | None = 5.0) -> None:
        for name, value in (("every_n_train_steps", every_n_train_steps), ("every_n_minutes", every_n_minutes)):
            if value is not None and value <= 0:
                raise ValueError(f"--checkpoint.{name} must be above 0, not {value}; null turns it off")
        self._every_n_steps, self._every_n_minutes = every_n_train_steps, every_n_minutes
        # Lightning's class takes only one of the two; here it gets neither, and its hooks are overridden
        super().__init__(filename=LAST, every_n_train_steps=0, every_n_epochs=0, enable_version_counter=False)
        self._saved_at = time.monotonic()
        self._time_is_up = DelayedAnyRank()
        self._is_due = False
        self._loops: dict[str, Any] | None = None  # state of the loops at the end of the last step
        self._saving = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not ends_step(trainer, batch_idx):
            return
        # Lightning counts the next batch as started before on_train_batch_start: here the state is still right
        self._loops = trainer.fit_loop.state_dict()
        by_steps = self._every_n_steps is not None and trainer.global_step % self._every_n_steps == 0
        minutes = (time.monotonic() - self._saved_at) / 60
        by_time = self._every_n_minutes is not None and self._time_is_up.ask(trainer, minutes >= self._every_n_minutes)
        self._is_due = by_steps or by_time

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._is_due:
            self.save_now(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save_now(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._saving and self._loops is not None:
            checkpoint["loops"]["fit_loop"] = self._loops

    def save_now(self, trainer: Trainer) -> Path:
        """Writes ``last.ckpt`` between two steps, at most once per step; returns its path. All ranks must call it."""
        path = Path(self.dirpath or CHECKPOINTS, f"{LAST}.ckpt")
        if not self._should_skip_saving_checkpoint(trainer):  # Lightning's: saved at this step, or a fast_dev_run
            if isinstance(trainer.logger, RunLogger):
                trainer.logger.flush()
            self._saving = True
            try:
                trainer.save_checkpoint(path)
            finally:
                self._saving = False
            self._last_global_step_saved = trainer.global_step
            self.best_model_path = str(path)
        self._is_due, self._saved_at, self._time_is_up = False, time.monotonic(), DelayedAnyRank()
        return path


def best_checkpoint(monitor: str = "val/bpb", mode: str = "min") -> ModelCheckpoint:
    """A callback that keeps the model with the best score so far in ``best.ckpt``.

    Args:
        monitor: name of the logged score.
        mode: "min" or "max".
    """
    return ModelCheckpoint(filename=BEST, monitor=monitor, mode=mode, enable_version_counter=False)
