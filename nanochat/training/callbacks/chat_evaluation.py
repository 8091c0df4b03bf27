"""While a run learns from conversations, now and then its scores in chat tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer

from nanochat.evaluation.chat_core import ChatScore
from nanochat.evaluation.evaluate_chat import ChatEvalLoader, run_eval
from nanochat.evaluation.groups import GROUPS, EvaluationRequest
from nanochat.options import at_least
from nanochat.training.callbacks.periodic_evaluation import PeriodicEvaluation
from nanochat.training.console import say
from nanochat.training.language_model import LanguageModel
from nanochat.training.sharding import FullyShardedStrategy
from nanochat.training.trainer_state import data_of

NAME = "val/chatcore"
CHEAP = ("spelling-bee", "functions", "arithmetic", "spelling")  # need nothing from the hub, and answers are short


class ChatEvaluation(PeriodicEvaluation):
    """Logs the accuracy in each task, ``chat/<task>``, and ``val/chatcore`` where one of ChatCORE's six is among them.

    Args:
        every_n_steps: how often, in steps of the optimizer; 0 never.
        tasks: which ones: of arc-easy, arc-challenge, mmlu, gsm8k, spelling-bee, and those that need no download:
            functions, documentation, arithmetic, spelling, identity. HumanEval is none of them: it takes `evaluate`.
        max_per_task: how many items of each task.
        data: a folder with the tasks' files, as for `evaluate`; null takes them from the hub.
    """

    def __init__(
        self,
        every_n_steps: int = 0,
        tasks: Sequence[str] = CHEAP,
        max_per_task: int = 20,
        data: str | None = None,
    ) -> None:
        at_least(0, "chat.", every_n_steps=every_n_steps)
        at_least(1, "chat.", max_per_task=max_per_task)
        known = [name for name in GROUPS["chat"].tasks if name != "humaneval"]
        strange = [name for name in tasks if name not in known]
        if strange:
            raise ValueError(f"--chat.tasks: there is no {strange[0]} to score on the way, only: {', '.join(known)}")
        super().__init__(every_n_steps)
        self.tasks, self.max_per_task, self.data = tuple(tasks), max_per_task, data

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """What cannot be had is said before the first step."""
        if stage != "fit" or not self.every_n_steps:
            return
        assert isinstance(pl_module, LanguageModel)
        if isinstance(trainer.strategy, FullyShardedStrategy):
            raise ValueError("--chat.every_n_steps: a model that is dealt out to several devices answers no questions")
        if trainer.local_rank == 0:
            self._make_loader(trainer, pl_module).check_data(self.tasks)  # one process of each machine downloads it
        trainer.strategy.barrier()

    def score(self, trainer: Trainer, module: LanguageModel) -> tuple[dict[str, float], str, str]:
        loader = self._make_loader(trainer, module)  # a new one each time, with the current weights in its engine
        evals = loader.load_all(self.tasks)
        results = [run_eval(chat_eval, loader.request, "32", lambda done: None) for chat_eval in evals]
        values = {f"chat/{result.name}": result.accuracy for result in results}
        score = ChatScore(results, self.max_per_task)
        if score.value is not None:
            values[NAME] = score.value
        shown = ", ".join(f"{result.name} {result.accuracy:.0%}" for result in results)
        return values, shown, f"of {self.max_per_task} items each at most"

    def _make_loader(self, trainer: Trainer, module: LanguageModel) -> ChatEvalLoader:
        data = data_of(trainer)
        options = {"data": self.data, "build": False}  # a moment of a run's time is not for compiling
        request = EvaluationRequest(module.gpt, data.tokenizer, Path(), self.tasks, self.max_per_task, options, say)
        return ChatEvalLoader(request)
