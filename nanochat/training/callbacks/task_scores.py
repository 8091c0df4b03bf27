"""After the last step of fine-tuning: how many held-out questions of each task the model answers rightly."""

from __future__ import annotations

from lightning.pytorch import Callback, Trainer

from nanochat.data.chat_data import ChatDataModule
from nanochat.evaluation.task_accuracy import TaskAccuracy, measure_accuracy
from nanochat.inference.decoder import is_sharded
from nanochat.options import at_least
from nanochat.training.console import say
from nanochat.training.language_model import LanguageModel


class TaskScores(Callback):
    """Asks the model the held-out questions of the tasks that it has learned from.

    Args:
        items: how many of each task, at most; 0 asks none.
    """

    def __init__(self, items: int = 200) -> None:
        at_least(0, "scores.", items=items)
        self.items = items

    def count(self, data: ChatDataModule) -> int:
        """How many questions that are."""
        return sum(min(self.items, task.held_out_count) for task in data.mixture.shares if task.scored)

    def take(self, trainer: Trainer, module: LanguageModel, data: ChatDataModule) -> dict[str, TaskAccuracy]:
        """The scores, by the names of the tasks. Every rank asks all, and none a model that is sharded."""
        if not self.items:
            return {}
        if is_sharded(module.gpt):
            say(
                "A model that is dealt out to several devices is not asked questions: `evaluate --tasks` does it later."
            )
            return {}
        module.eval()
        with trainer.precision_plugin.val_step_context():
            return measure_accuracy(module.gpt, data.tokenizer, list(data.mixture.shares), self.items)


def in_words(scores: dict[str, TaskAccuracy]) -> str:
    """The scores on one line."""
    return ", ".join(f"{name} {score.right} of {score.items} ({score.accuracy:.0%})" for name, score in scores.items())
