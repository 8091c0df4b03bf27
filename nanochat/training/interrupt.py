"""Ctrl-C: finish the step, write a checkpoint, say how to go on."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.training.checkpoints import LastCheckpoint
from nanochat.training.console import say
from nanochat.training.steps import ends_step, find_callback


class Interrupted(Exception):
    """The user stopped the run, and all that it had learned is saved.

    Args:
        step: steps done.
        checkpoint: where they are saved; None if the run writes no checkpoints.
    """

    def __init__(self, step: int, checkpoint: str | None) -> None:
        super().__init__(f"stopped after step {step:,}")
        self.step, self.checkpoint = step, checkpoint


class GracefulInterrupt(Callback):
    """Turns the first Ctrl-C into a stop after the current step. A second one stops at once.

    A KeyboardInterrupt could strike in the middle of an optimizer's step, where half of the weights have moved.
    """

    def __init__(self) -> None:
        self.requested = False
        self._stop: Interrupted | None = None
        self._previous: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        say("\nStopping after this step (Ctrl-C again: at once, without saving) ...")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves here, because this is the place from which Lightning knows how to go on."""
        if self.requested and ends_step(trainer, batch_idx):
            saver = find_callback(trainer, LastCheckpoint)
            path = saver.save_now(trainer) if saver is not None else None
            self._stop = Interrupted(trainer.global_step, str(path) if path is not None else None)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stops here, because the step before has been logged by now."""
        if self._stop is not None:
            raise self._stop

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
