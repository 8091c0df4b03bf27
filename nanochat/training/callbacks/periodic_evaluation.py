"""While a run trains, now and then its scores in tasks: curves of skill beside the curves of loss."""

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
    """Scores the model after every so many steps, in the precision in which `evaluate` does it.

    On a CPU that is float32, whatever the run trains in. In bfloat16, whose rounding decides close questions, oneDNN
    would keep what it makes for each size of rows, and tasks have ever new ones.

    Args:
        every_n_steps: how often, in steps of the optimizer; 0 never.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps

    @abstractmethod
    def score(self, trainer: Trainer, module: LanguageModel) -> tuple[dict[str, float], str, str]:
        """Asks the model as it is now: values by the names under which they are logged, them in words, and a remark."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if not due or not ends_step(trainer, batch_idx):
            return
        assert isinstance(pl_module, LanguageModel)
        started = time.monotonic()
        on_cpu = trainer.strategy.root_device.type == "cpu"
        with nullcontext() if on_cpu else trainer.precision_plugin.val_step_context():
            values, shown, remark = self.score(trainer, pl_module)
        reshard(pl_module.gpt)
        for logger in trainer.loggers:  # Lightning would log it only where the step is one of log_every_n_steps
            logger.log_metrics(values, trainer.global_step - 1)
        say(f"step {trainer.global_step:,}  {shown} ({remark}; {duration(time.monotonic() - started)})")
