"""The progress of training: one live line in a terminal, or a line every half minute in a file."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from nanochat.training.callbacks.throughput import Throughput
from nanochat.training.console import clock, count, say
from nanochat.training.trainer_state import ends_step, find_callback, logs_step, validations_left

REFRESH_SECONDS = 0.5  # of the live line
LINE_SECONDS = 30.0  # between two lines in a file
# Metrics that are shown if the run logs them, with their label and format.
METRICS = (
    ("train/loss", "loss", ".3f"),
    ("train/bpb", "bpb", ".3f"),
    ("train/reward", "reward", ".3f"),
    ("train/answer_tokens", "tokens per answer", ".1f"),
)


class StepProgress(ProgressBar):
    """Shows optimizer steps instead of batches: step, loss, bits per byte or reward, tokens per second, time left."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm | None = None
        self._metrics: list[str] = []  # as last logged, formatted
        self._shown_at = 0.0
        self._validation_seconds = 0.0  # of the last validation
        self._validation_started = 0.0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown_at = time.monotonic()
        if self._enabled and sys.stderr.isatty():
            total = trainer.max_steps if trainer.max_steps > 0 else None
            self._bar = tqdm(
                total=total,
                initial=trainer.global_step,
                dynamic_ncols=True,
                leave=False,
                bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{desc}" if total else "{n_fmt} steps{desc}",
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._enabled or not ends_step(trainer, batch_idx):
            return
        if logs_step(trainer, trainer.global_step):  # only then, as .item() waits for the GPU
            logged = trainer.callback_metrics
            self._metrics = [f"{label} {logged[name].item():{form}}" for name, label, form in METRICS if name in logged]
        interval = REFRESH_SECONDS if self._bar is not None else LINE_SECONDS
        if time.monotonic() - self._shown_at < interval:
            return
        self._shown_at = time.monotonic()
        self._show(trainer)

    def _show(self, trainer: Trainer) -> None:
        parts = list(self._metrics)
        throughput = find_callback(trainer, Throughput)
        if throughput is not None and throughput.tokens_per_second:
            parts.append(f"{count(throughput.tokens_per_second)} tokens/s")
            left = self._seconds_left(trainer, throughput.step_seconds)
            if left is not None:
                parts.append(f"{clock(left)} left")
        if self._bar is not None:
            self._bar.n = trainer.global_step
            if trainer.max_steps > 0:
                self._bar.total = trainer.max_steps
            self._bar.set_description_str("  ".join(["", *parts]), refresh=True)
        else:
            total = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
            say("  ".join([f"step {trainer.global_step}{total}", *parts]))

    def _seconds_left(self, trainer: Trainer, step_seconds: float | None) -> float | None:
        """Estimated seconds until the last step; None if it is unknown."""
        if trainer.max_steps < 0 or step_seconds is None:
            return None
        training = (trainer.max_steps - trainer.global_step) * step_seconds
        return training + validations_left(trainer) * self._validation_seconds

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_started = time.monotonic()
        if self._bar is not None:
            self._bar.set_description_str("  validating ...", refresh=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_seconds = time.monotonic() - self._validation_started

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
