"""While a run trains, now and then its CORE: curves of skill beside the curves of loss."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.evaluation.bundle import Bundle
from nanochat.evaluation.core import score_core
from nanochat.evaluation.published import find_bundle
from nanochat.evaluation.scoring import Judge
from nanochat.options import at_least
from nanochat.training.console import duration, say
from nanochat.training.language_model import LanguageModel
from nanochat.training.sharding import let_go
from nanochat.training.steps import data_of, ends_step

NAME = "val/core"


class CoreCurve(Callback):
    """Logs ``val/core`` and, for each task, ``core/<task>``: the accuracies centred at chance.

    Args:
        every_n_steps: how often, in steps of the optimizer; 0 never.
        max_per_task: how many items of each task at most; null takes all, which takes minutes to hours each time.
        bundle: the tasks: a folder or a zip file in the published form; null fetches the published one, once.
    """

    def __init__(self, every_n_steps: int = 0, max_per_task: int | None = 20, bundle: str | None = None) -> None:
        at_least(0, "core.", every_n_steps=every_n_steps)
        at_least(1, "core.", max_per_task=max_per_task)
        self.every_n_steps, self.max_per_task, self.bundle = every_n_steps, max_per_task, bundle
        self._opened: Bundle | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """What is wrong with the bundle is said before the first step."""
        if stage != "fit" or not self.every_n_steps:
            return
        if trainer.local_rank == 0:
            find_bundle(self.bundle)  # one process of each machine fetches it
        trainer.strategy.barrier()
        self._opened = find_bundle(self.bundle)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if self._opened is None or not due or not ends_step(trainer, batch_idx):
            return
        assert isinstance(pl_module, LanguageModel)
        data = data_of(trainer)
        started = time.monotonic()
        with trainer.precision_plugin.val_step_context():
            score = score_core(Judge(pl_module.gpt), data.tokenizer, self._opened, self.max_per_task)
        let_go(pl_module.gpt)
        values = {NAME: score.value, **{f"core/{task.name}": task.centred for task in score.tasks}}
        for logger in trainer.loggers:  # Lightning would log it only where the step is one of log_every_n_steps
            logger.log_metrics(values, trainer.global_step - 1)
        low, high = score.interval
        took = duration(time.monotonic() - started)
        say(f"step {trainer.global_step:,}  {NAME} {score.value:.4f} ({low:.4f} to {high:.4f}; {score.label}; {took})")
