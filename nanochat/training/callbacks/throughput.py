"""Measures the speed of training: tokens per second, and model FLOPs utilisation."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.training.hardware import matmul_dtype, peak_flops, synchronize
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import data_of, ends_step, logs_step


class Throughput(Callback):
    """Logs ``train/tokens_per_second``, ``train/mfu`` and ``train/data_wait``, and holds the totals of the run.

    MFU (model FLOPs utilisation, PaLM, arXiv 2204.02311) divides the operations that the model requires, whatever was
    computed in fact, by the peak of the device in that time. Validation is not included.

    ``train/data_wait`` is the fraction of the time that training waited for batches.

    Attributes:
        tokens_per_second: over the steps between the last two times that it was logged; None before.
        step_seconds: seconds per step over these steps.
        seconds: spent in training steps by this process.
        tokens: trained on by all devices in that time.
        peak: FLOP/s of all devices together; None if unknown.
    """

    def __init__(self) -> None:
        self.tokens_per_second: float | None = None
        self.step_seconds: float | None = None
        self.seconds = 0.0
        self.tokens = 0
        self.peak: float | None = None
        self._clock_started = 0.0  # 0 while the clock is stopped
        # since the last time that the speed was logged
        self._window_seconds, self._window_tokens, self._window_steps = 0.0, 0, 0
        self._waited_before = 0.0  # seconds waited for data before that

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        one_device = peak_flops(trainer.strategy.root_device, matmul_dtype(str(trainer.precision)))
        self.peak = one_device * trainer.world_size if one_device is not None else None

    def mfu(self, module: LanguageModel, tokens_per_second: float, flops_per_token: float) -> float | None:
        """Model FLOPs utilisation, from 0 to 1; None if the peak is unknown or the FLOPs do not follow the tokens."""
        if self.peak is None or not module.flops_follow_tokens:
            return None
        return flops_per_token * tokens_per_second / self.peak

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self._clock_started:
            self._clock_started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, LanguageModel)
        tokens = pl_module.tokens_in(batch) * trainer.world_size
        self.tokens += tokens
        self._window_tokens += tokens
        self._window_steps += ends_step(trainer, batch_idx)
        if ends_step(trainer, batch_idx) and logs_step(trainer, trainer.global_step):
            self._stop_clock(trainer)
            self._log(trainer, pl_module)
            self._clock_started = time.perf_counter()

    def _log(self, trainer: Trainer, module: LanguageModel) -> None:
        data = data_of(trainer)
        self.tokens_per_second = self._window_tokens / self._window_seconds
        self.step_seconds = self._window_seconds / self._window_steps
        module.log("train/tokens_per_second", self.tokens_per_second)
        waited = data.seconds_waited
        module.log("train/data_wait", (waited - self._waited_before) / self._window_seconds)
        self._waited_before = waited
        mfu = self.mfu(module, self.tokens_per_second, module.gpt.flops_per_token(data.row_length))
        if mfu is not None:
            module.log("train/mfu", mfu)
        self._window_seconds, self._window_tokens, self._window_steps = 0.0, 0, 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_clock(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_clock(trainer)

    def _stop_clock(self, trainer: Trainer) -> None:
        """Adds the time since the clock was started, after the device has finished its work."""
        if self._clock_started:
            synchronize(trainer.strategy.root_device)
            elapsed = time.perf_counter() - self._clock_started
            self._window_seconds += elapsed
            self.seconds += elapsed
            self._clock_started = 0.0
