"""What a step of the real training loop does to a model, taken down as it happens."""

from __future__ import annotations

import copy
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from nanochat.training.language_model import LanguageModel


class StepRecorder(Callback):
    """Takes down what a step of the real training loop does to the model, and lets it go on from the run's state.

    Args:
        optimizer_state: of the checkpoint; None if it has none.

    Attributes:
        gradients: by the names of the parameters, dense.
        before: the parameters before the step.
        resumed: whether the optimizer went on from the checkpoint's state.
        groups: the optimizer's, with the rates at which it moved.
    """

    def __init__(self, optimizer_state: dict[str, Any] | None) -> None:
        self.optimizer_state = optimizer_state
        self.gradients: dict[str, Tensor] = {}
        self.before: dict[str, Tensor] = {}
        self.groups: list[dict[str, Any]] = []
        self.resumed = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over averages and rates of the run, the rates as they were before they fell at its end."""
        optimizer = trainer.optimizers[0]
        if self.optimizer_state is not None and _fits(optimizer, self.optimizer_state):
            optimizer.load_state_dict(copy.deepcopy(self.optimizer_state))
            self.resumed = True
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])
            if group["algorithm"] == "muon":
                group["every"] = 1  # it would gather several steps, and show nothing in most of them

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        assert isinstance(pl_module, LanguageModel)
        for name, parameter in pl_module.gpt.named_parameters():
            self.before[name] = parameter.detach().clone()
            if parameter.grad is not None:
                gradient = parameter.grad.detach()
                self.gradients[name] = gradient.to_dense() if gradient.is_sparse else gradient.clone()
        self.groups = [dict(group) for group in optimizer.param_groups]


def _fits(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> bool:
    """Whether a saved state belongs to an optimizer of these groups."""
    saved = state.get("param_groups", [])
    return [len(g["params"]) for g in saved] == [len(g["params"]) for g in optimizer.param_groups] and [
        g.get("name") for g in saved
    ] == [g.get("name") for g in optimizer.param_groups]
