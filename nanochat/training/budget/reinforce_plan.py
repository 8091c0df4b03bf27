"""The plan of reinforcement learning: what is asked, and how well it is answered before the first step."""

from __future__ import annotations

import time

from lightning.pytorch import LightningModule, Trainer

from nanochat.data.data_module import RowsDataModule
from nanochat.data.question_data import QuestionsDataModule
from nanochat.training.budget.plan import Plan
from nanochat.training.language_model import LanguageModel
from nanochat.training.reinforce import Reinforce


class ReinforcePlan(Plan):
    """Refuses what cannot fit into memory, times a few answers, and tells the user what is to come.

    Args:
        minutes: the time that the run is to take, from the command to its end, the scores at the end included: where
            --trainer.max_steps does not say how many steps to take, it takes as many as fit on this machine. null:
            300 steps.
    """

    def __init__(self, minutes: float | None = 10.0) -> None:
        super().__init__(minutes)
        self._asking = 0.0  # seconds to ask the held-out questions
        self._accuracy = 0.0  # now

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Reinforce)
        started = time.monotonic()
        self._accuracy = pl_module.ask()
        self._asking = time.monotonic() - started
        super().on_fit_start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if trainer.global_step == 0:
            for logger in trainer.loggers:  # where the curve begins
                logger.log_metrics({"val/accuracy": self._accuracy}, 0)

    def _seconds_to_validate(self, data: RowsDataModule) -> float:
        return super()._seconds_to_validate(data) + self._asking

    def _pace(self, trainer: Trainer, module: LanguageModel, data: RowsDataModule) -> str:
        return f"{self._times.step:.2g} s a step"

    def _describe_work(self, trainer: Trainer, module: LanguageModel, data: RowsDataModule) -> dict[str, str]:
        assert isinstance(data, QuestionsDataModule)
        asked = f"{self._accuracy:.0%} of {len(data.val_items):,} questions are answered rightly by now"
        rows = {"questions": f"{data.extent} ({data.fingerprint})", "held out": asked}
        if trainer.max_steps > 0:
            rows["training"] = (
                f"{trainer.max_steps:,} steps of {data.questions_per_step} questions, {data.samples} answers to each: "
                f"{trainer.max_steps * data.questions_per_step * data.samples:,} answers"
            )
        return rows
