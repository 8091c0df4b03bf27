"""Evaluates the CORE metric during training."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer

from nanochat.evaluation.bundle import Bundle
from nanochat.evaluation.bundle_download import find_bundle
from nanochat.evaluation.core import score_core
from nanochat.evaluation.scoring import Judge
from nanochat.options import at_least
from nanochat.training.callbacks.periodic_evaluation import PeriodicEvaluation
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import data_of

NAME = "val/core"


class CoreEvaluation(PeriodicEvaluation):
    """Logs ``val/core``, and the centred accuracy of each task as ``core/<task>``.

    Args:
        every_n_steps: number of optimizer steps between two evaluations; 0 for none.
        max_per_task: largest number of items of each task; null for all, which takes minutes to hours each time.
        bundle: the tasks: a folder or a zip file in the published form; null downloads the published one once.
    """

    def __init__(self, every_n_steps: int = 0, max_per_task: int | None = 20, bundle: str | None = None) -> None:
        at_least(0, "core.", every_n_steps=every_n_steps)
        at_least(1, "core.", max_per_task=max_per_task)
        super().__init__(every_n_steps)
        self.max_per_task, self.bundle = max_per_task, bundle
        self._opened: Bundle | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Opens the bundle, so that errors are raised before the first step."""
        if stage != "fit" or not self.every_n_steps:
            return
        if trainer.local_rank == 0:
            find_bundle(self.bundle)  # one process of each machine downloads it
        trainer.strategy.barrier()
        self._opened = find_bundle(self.bundle)

    def score(self, trainer: Trainer, module: LanguageModel) -> tuple[dict[str, float], str, str]:
        assert self._opened is not None
        score = score_core(Judge(module.gpt), data_of(trainer).tokenizer, self._opened, self.max_per_task)
        low, high = score.interval
        scores = {NAME: score.value, **{f"core/{task.name}": task.centred for task in score.tasks}}
        return scores, f"{NAME} {score.value:.4f}", f"{low:.4f} to {high:.4f}; {score.label}"
