"""When checkpoints are written, and where they are found again."""

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
    """``last.ckpt``: where to go on, written now and then and at the end. The one before it is ``previous.ckpt``.

    A checkpoint is written when the next step is about to begin: all that belongs to the step before, its validation
    and its lines in the logs, is done by then. So whoever goes on from it, even after a ``kill -9``, misses nothing.

    Args:
        every_n_train_steps: how often, in steps; null leaves it to the clock.
        every_n_minutes: how often, by the clock; null leaves it to the steps. Both together are possible.
    """

    def __init__(self, every_n_train_steps: int | None = None, every_n_minutes: float | None = 5.0) -> None:
        for name, value in (("every_n_train_steps", every_n_train_steps), ("every_n_minutes", every_n_minutes)):
            if value is not None and value <= 0:
                raise ValueError(f"--checkpoint.{name} must be above 0, not {value}; null turns it off")
        self._steps, self._minutes = every_n_train_steps, every_n_minutes
        # Lightning's class would take only one of the two: here it decides on neither
        super().__init__(filename=LAST, every_n_train_steps=0, every_n_epochs=0, enable_version_counter=False)
        self._saved_at = time.monotonic()
        self._late = DelayedAnyRank()
        self._due = False
        self._loops: dict[str, Any] | None = None  # where the loops stood when the last step ended
        self._saving = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not ends_step(trainer, batch_idx):
            return
        # Lightning counts the next batch before a hook of it runs: this is the last moment to ask where it stands
        self._loops = trainer.fit_loop.state_dict()
        by_steps = self._steps is not None and trainer.global_step % self._steps == 0
        waited = time.monotonic() - self._saved_at
        by_clock = self._minutes is not None and self._late.ask(trainer, waited >= 60 * self._minutes)
        self._due = by_steps or by_clock

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._due:
            self.save_now(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save_now(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._saving and self._loops is not None:
            checkpoint["loops"]["fit_loop"] = self._loops

    def save_now(self, trainer: Trainer) -> Path:
        """Writes ``last.ckpt`` between two steps, on every rank together, and says where; once for each step."""
        path = Path(self.dirpath or CHECKPOINTS, f"{LAST}.ckpt")
        if not self._should_skip_saving_checkpoint(trainer):  # Lightning's: saved already, or a fast_dev_run
            if isinstance(trainer.logger, RunLogger):
                trainer.logger.flush()
            self._saving = True
            try:
                trainer.save_checkpoint(path)
            finally:
                self._saving = False
            self._last_global_step_saved = trainer.global_step
            self.best_model_path = str(path)
        self._due, self._saved_at, self._late = False, time.monotonic(), DelayedAnyRank()
        return path


def best_checkpoint(monitor: str = "val/bpb", mode: str = "min") -> ModelCheckpoint:
    """``best.ckpt``: the model with the lowest val/bpb so far, or with the best of another score."""
    return ModelCheckpoint(filename=BEST, monitor=monitor, mode=mode, enable_version_counter=False)
