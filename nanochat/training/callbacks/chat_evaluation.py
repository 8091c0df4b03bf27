"""Evaluates chat tasks during fine-tuning."""

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
from nanochat.wording import plural

NAME = "val/chatcore"
DEFAULT_TASKS = ("spelling-bee", "functions", "arithmetic", "spelling")  # need no download, and have short answers


class ChatEvaluation(PeriodicEvaluation):
    """Logs the accuracy on each task as ``chat/<task>``, and ``val/chatcore`` if the tasks include one of ChatCORE's.

    Args:
        every_n_steps: number of optimizer steps between two evaluations; 0 for none.
        tasks: names of tasks: arc-easy, arc-challenge, mmlu, gsm8k, spelling-bee; and without a download functions,
            documentation, arithmetic, spelling, identity. HumanEval is available in `evaluate` only.
        max_per_task: largest number of items of each task.
        data: a folder with the tasks' files, as for `evaluate`; null downloads them from the hub.
    """

    def __init__(
        self,
        every_n_steps: int = 0,
        tasks: Sequence[str] = DEFAULT_TASKS,
        max_per_task: int = 20,
        data: str | None = None,
    ) -> None:
        at_least(0, "chat.", every_n_steps=every_n_steps)
        at_least(1, "chat.", max_per_task=max_per_task)
        known = [name for name in GROUPS["chat"].tasks if name != "humaneval"]
        unknown = [name for name in tasks if name not in known]
        if unknown:
            raise ValueError(f"--chat.tasks: {unknown[0]} is not available during training, only: {', '.join(known)}")
        super().__init__(every_n_steps)
        self.tasks, self.max_per_task, self.data = tuple(tasks), max_per_task, data

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepares the tasks, so that errors are raised before the first step."""
        if stage != "fit" or not self.every_n_steps:
            return
        assert isinstance(pl_module, LanguageModel)
        if isinstance(trainer.strategy, FullyShardedStrategy):
            raise ValueError(
                "--chat.every_n_steps: a model that is sharded over several devices cannot generate answers"
            )
        if trainer.local_rank == 0:
            self._make_loader(trainer, pl_module).check_data(self.tasks)  # one process of each machine downloads it
        trainer.strategy.barrier()

    def score(self, trainer: Trainer, module: LanguageModel) -> tuple[dict[str, float], str, str]:
        loader = self._make_loader(trainer, module)  # a new one each time, with the current weights in its engine
        evals = loader.load_all(self.tasks)
        results = [run_eval(chat_eval, loader.request, "32", lambda done: None) for chat_eval in evals]
        scores = {f"chat/{result.name}": result.accuracy for result in results}
        score = ChatScore(results, self.max_per_task)
        if score.value is not None:
            scores[NAME] = score.value
        text = ", ".join(f"{result.name} {result.accuracy:.0%}" for result in results)
        return scores, text, f"up to {plural(self.max_per_task, 'item')} each"

    def _make_loader(self, trainer: Trainer, module: LanguageModel) -> ChatEvalLoader:
        data = data_of(trainer)
        options = {"data": self.data, "build": False}  # do not spend training time on compiling the decoder
        request = EvaluationRequest(module.gpt, data.tokenizer, Path(), self.tasks, self.max_per_task, options, say)
        return ChatEvalLoader(request)
