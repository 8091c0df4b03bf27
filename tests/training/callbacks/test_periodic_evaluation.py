"""Scores on the way: when they are taken, in which precision, and where they are logged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision

from nanochat.training.callbacks.periodic_evaluation import PeriodicEvaluation
from nanochat.training.language_model import LanguageModel


class Precision(PeriodicEvaluation):
    """Its score is the step, and what it remembers is what the model would have multiplied in."""

    def score(self, trainer: Trainer, module: LanguageModel) -> tuple[dict[str, float], str, str]:
        self.dtype = module.gpt.activation_dtype
        return {"val/step": trainer.global_step}, "a step", "by its number"


def test_scores_are_taken_every_n_steps_and_on_a_cpu_in_float32(capsys: pytest.CaptureFixture[str]) -> None:
    """In bfloat16 memory would grow with each new size of rows, and rounding decide close questions."""
    logged: list[tuple[dict[str, float], int]] = []
    trainer: Any = SimpleNamespace(
        global_step=0,
        accumulate_grad_batches=2,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        precision_plugin=MixedPrecision("bf16-mixed", "cpu"),
        loggers=[SimpleNamespace(log_metrics=lambda values, step: logged.append((values, step)))],
    )
    module, curve = LanguageModel(depth=1, width=32, heads=1), Precision(2)
    for batch in range(8):
        trainer.global_step = (batch + 1) // 2
        curve.on_train_batch_end(trainer, module, None, None, batch)
    assert logged == [({"val/step": 2}, 1), ({"val/step": 4}, 3)]
    assert curve.dtype == torch.float32
    assert "step 4  a step (by its number; 0 s)" in capsys.readouterr().out
    Precision(0).on_train_batch_end(trainer, module, None, None, 7)
    assert len(logged) == 2
