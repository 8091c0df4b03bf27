"""How fast a run trains: tokens a second, and what share of the machine's peak that is."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.training.hardware import matmul_dtype, peak_flops, synchronize
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import data_of, ends_step, logs_step


class Throughput(Callback):
    """Logs ``train/tokens_per_second``, ``train/mfu`` and ``train/data_wait``, and keeps the totals of the run.

    MFU (model FLOPs utilisation, PaLM, arXiv 2204.02311) counts the operations that the model needs, not those that
    were done, and divides by what the device could do in that time. Validation does not count.

    ``train/data_wait`` is the share of the time that training waited for its batches.

    Attributes:
        tokens_per_second: over the steps since the last time it was logged; None before.
        step_seconds: of each of these steps.
        seconds: time spent in training steps by this process.
        tokens: tokens trained on by all devices in that time.
        peak: FLOP/s of all devices together; None if not known.
    """

    def __init__(self) -> None:
        self.tokens_per_second: float | None = None
        self.step_seconds: float | None = None
        self._steps = 0  # since then
        self.seconds = 0.0
        self.tokens = 0
        self.peak: float | None = None
        self._mark = 0.0
        self._since = [0.0, 0]  # seconds and tokens since the last time it was logged
        self._waited = 0.0  # seconds waited for data until then

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        one = peak_flops(trainer.strategy.root_device, matmul_dtype(str(trainer.precision)))
        self.peak = one * trainer.world_size if one is not None else None

    def mfu(self, module: LanguageModel, tokens_per_second: float, flops_per_token: float) -> float | None:
        """The share of the peak that so many tokens a second are; None where the peak is not known."""
        if self.peak is None or not module.counts_operations:
            return None
        return flops_per_token * tokens_per_second / self.peak

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self._mark:
            self._mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, LanguageModel)
        tokens = pl_module.tokens_in(batch) * trainer.world_size
        self.tokens += tokens
        self._since[1] += tokens
        self._steps += ends_step(trainer, batch_idx)
        if not (ends_step(trainer, batch_idx) and logs_step(trainer, trainer.global_step)):
            return
        self._stop_clock(trainer)
        self.tokens_per_second = self._since[1] / self._since[0]
        self.step_seconds, self._steps = self._since[0] / self._steps, 0
        pl_module.log("train/tokens_per_second", self.tokens_per_second)
        waited = data_of(trainer).seconds_waited
        pl_module.log("train/data_wait", (waited - self._waited) / self._since[0])
        self._waited = waited
        flops_per_token = pl_module.gpt.flops_per_token(data_of(trainer).row_length)
        mfu = self.mfu(pl_module, self.tokens_per_second, flops_per_token)
        if mfu is not None:
            pl_module.log("train/mfu", mfu)
        self._since = [0.0, 0]
        self._mark = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_clock(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_clock(trainer)

    def _stop_clock(self, trainer: Trainer) -> None:
        if self._mark:
            synchronize(trainer.strategy.root_device)
            elapsed = time.perf_counter() - self._mark
            self._since[0] += elapsed
            self.seconds += elapsed
            self._mark = 0.0
