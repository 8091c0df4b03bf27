"""The base class of callbacks that evaluate the model on tasks during training."""

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import nullcontext
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.training.console import duration, say
from nanochat.training.language_model import LanguageModel
from nanochat.training.sharding import reshard
from nanochat.training.trainer_state import ends_step


class PeriodicEvaluation(Callback):
    """Evaluates the model every n steps, in the same precision as ``evaluate``.

    On a CPU that is float32, also if the run trains in bfloat16: rounding in bfloat16 decides close questions, and
    oneDNN keeps buffers for each batch shape in bfloat16, of which tasks have an unlimited number.

    Args:
        every_n_steps: number of optimizer steps between two evaluations; 0 for none.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps

    @abstractmethod
    def score(self, trainer: Trainer, module: LanguageModel) -> tuple[dict[str, float], str, str]:
        """Evaluates the present model; returns scores by the names of their curves, and two texts to print: the scores,
        and a remark about them."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if not is_due or not ends_step(trainer, batch_idx):
            return
        assert isinstance(pl_module, LanguageModel)
        started = time.monotonic()
        on_cpu = trainer.strategy.root_device.type == "cpu"
        with nullcontext() if on_cpu else trainer.precision_plugin.val_step_context():
            scores, text, remark = self.score(trainer, pl_module)
        reshard(pl_module.gpt)
        for logger in trainer.loggers:  # self.log would write them only in steps of log_every_n_steps
            logger.log_metrics(scores, trainer.global_step - 1)
        say(f"step {trainer.global_step:,}  {text} ({remark}; {duration(time.monotonic() - started)})")
