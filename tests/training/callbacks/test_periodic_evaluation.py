"""Evaluations during training: when they run, in which precision, and where they are logged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision

from nanochat.training.callbacks.periodic_evaluation import PeriodicEvaluation
from nanochat.training.language_model import LanguageModel


class DtypeRecorder(PeriodicEvaluation):
    """Its score is the number of the step; it records the dtype of the model's matrix products."""

    def score(self, trainer: Trainer, module: LanguageModel) -> tuple[dict[str, float], str, str]:
        self.dtype = module.gpt.activation_dtype
        return {"val/step": trainer.global_step}, "a step", "by its number"


def test_every_n_steps_in_float32(capsys: pytest.CaptureFixture[str]) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    trainer: Any = SimpleNamespace(
        global_step=0,
        accumulate_grad_batches=2,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        precision_plugin=MixedPrecision("bf16-mixed", "cpu"),
        loggers=[SimpleNamespace(log_metrics=lambda values, step: logged.append((values, step)))],
    )
    module, evaluation = LanguageModel(depth=1, width=32, heads=1), DtypeRecorder(2)
    for batch in range(8):
        trainer.global_step = (batch + 1) // 2
        evaluation.on_train_batch_end(trainer, module, None, None, batch)
    assert logged == [({"val/step": 2}, 1), ({"val/step": 4}, 3)]
    assert evaluation.dtype == torch.float32
    assert "step 4  a step (by its number; 0 s)" in capsys.readouterr().out
    DtypeRecorder(0).on_train_batch_end(trainer, module, None, None, 7)
    assert len(logged) == 2
