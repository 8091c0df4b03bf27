"""The plan of reinforcement learning, with the accuracy on held-out questions before the first step."""

from __future__ import annotations

import time

from lightning.pytorch import LightningModule, Trainer

from nanochat.data.question_data import QuestionsDataModule
from nanochat.training.budget.plan import Plan
from nanochat.training.budget.report import PlanReport
from nanochat.training.language_model import LanguageModel
from nanochat.training.reinforce import Reinforce
from nanochat.wording import plural


class ReinforcePlan(Plan):
    """Checks the memory, times a few steps, chooses the number of steps, and prints the plan.

    Args:
        minutes: duration of the run, from the command to the end, with the final scores. Without --trainer.max_steps,
            training takes as many steps as fit into it on this machine. null: 300 steps.
    """

    def __init__(self, minutes: float | None = 10.0) -> None:
        super().__init__(minutes)
        self._accuracy = 0.0  # before the first step

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Reinforce)
        started = time.monotonic()
        self._accuracy = pl_module.measure_accuracy()
        self.estimate.questions = time.monotonic() - started
        super().on_fit_start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if trainer.global_step == 0:
            for logger in trainer.loggers:  # the first point of the curve
                logger.log_metrics({"val/accuracy": self._accuracy}, 0)

    def new_report(self, trainer: Trainer, module: LanguageModel) -> PlanReport:
        return ReinforceReport(trainer, module, self._accuracy)


class ReinforceReport(PlanReport):
    """Describes a run of reinforcement learning.

    Args:
        trainer: of the run.
        module: its model.
        accuracy: on held-out questions, before the first step.
    """

    def __init__(self, trainer: Trainer, module: LanguageModel, accuracy: float) -> None:
        super().__init__(trainer, module)
        self.accuracy = accuracy

    def work_rows(self) -> dict[str, str]:
        data, steps = self.data, self.trainer.max_steps
        assert isinstance(data, QuestionsDataModule)
        questions = plural(len(data.val_items), "question")
        rows = {
            "questions": f"{data.extent} ({data.fingerprint})",
            "held out": f"{self.accuracy:.0%} of {questions} answered correctly before training",
        }
        if steps > 0:
            rows["training"] = (
                f"{steps:,} steps of {data.questions_per_step} questions, {data.samples} answers to each: "
                f"{steps * data.questions_per_step * data.samples:,} answers"
            )
        return rows

    def speed(self, step_seconds: float) -> str:
        return f"{step_seconds:.2g} s per step"
