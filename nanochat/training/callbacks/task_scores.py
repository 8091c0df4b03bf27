"""Accuracy on held-out questions of each task, after the last step of fine-tuning."""

from __future__ import annotations

from lightning.pytorch import Callback, Trainer

from nanochat.data.chat_data import ChatDataModule
from nanochat.evaluation.task_accuracy import TaskAccuracy, measure_accuracy
from nanochat.inference.decoder import is_sharded
from nanochat.options import at_least
from nanochat.training.console import say
from nanochat.training.language_model import LanguageModel


class TaskScores(Callback):
    """Measures the accuracy on held-out questions of the training tasks.

    It has no hooks: ``fit`` and ``validate`` call it after training or validation.

    Args:
        items: largest number of questions of each task; 0 for none.
    """

    def __init__(self, items: int = 200) -> None:
        at_least(0, "scores.", items=items)
        self.items = items

    def count(self, data: ChatDataModule) -> int:
        """Number of questions."""
        return sum(min(self.items, task.held_out_count) for task in data.mixture.shares if task.scored)

    def measure(self, trainer: Trainer, module: LanguageModel, data: ChatDataModule) -> dict[str, TaskAccuracy]:
        """Accuracies by task name, measured on every rank; none for a sharded model, which cannot generate."""
        if not self.items:
            return {}
        if is_sharded(module.gpt):
            say("A sharded model cannot generate answers here: measure its accuracy with `evaluate --tasks`.")
            return {}
        module.eval()
        with trainer.precision_plugin.val_step_context():
            return measure_accuracy(module.gpt, data.tokenizer, list(data.mixture.shares), self.items)


def format_scores(scores: dict[str, TaskAccuracy]) -> str:
    """Scores on one line, such as "arithmetic 57 of 200 (28%)"."""
    return ", ".join(f"{name} {score.right} of {score.items} ({score.accuracy:.0%})" for name, score in scores.items())
