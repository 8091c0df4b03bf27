"""A Lightning callback that records the gradients and the weights of an optimizer step."""

from __future__ import annotations

import copy
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from nanochat.training.language_model import LanguageModel


class StepRecorder(Callback):
    """Restores the optimizer's state, then records gradients and weights just before the optimizer step.

    Args:
        optimizer_state: the optimizer state of the checkpoint; None if it has none.

    Attributes:
        gradients: gradients by parameter name.
        weights_before: copies of the parameters before the step, by name.
        resumed: whether the optimizer state of the checkpoint was loaded.
        groups: the optimizer's parameter groups, with the learning rates of the step.
    """

    def __init__(self, optimizer_state: dict[str, Any] | None) -> None:
        self.optimizer_state = optimizer_state
        self.gradients: dict[str, Tensor] = {}
        self.weights_before: dict[str, Tensor] = {}
        self.groups: list[dict[str, Any]] = []
        self.resumed = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Loads the optimizer state, and sets the full learning rates: at the end of a run they have decayed to 0."""
        optimizer = trainer.optimizers[0]
        if self.optimizer_state is not None and _matches(optimizer, self.optimizer_state):
            optimizer.load_state_dict(copy.deepcopy(self.optimizer_state))
            self.resumed = True
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])
            if group["algorithm"] == "muon":
                group["every"] = 1  # with more, most steps would leave the matrices unchanged

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        assert isinstance(pl_module, LanguageModel)
        for name, parameter in pl_module.gpt.named_parameters():
            self.weights_before[name] = parameter.detach().clone()
            if parameter.grad is not None:
                self.gradients[name] = parameter.grad.detach().clone()
        self.groups = [dict(group) for group in optimizer.param_groups]


def _matches(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> bool:
    """Whether a saved state has the optimizer's parameter groups: the same names and numbers of parameters."""

    def signature(groups: list[dict[str, Any]]) -> list[tuple[Any, int]]:
        return [(group.get("name"), len(group["params"])) for group in groups]

    return signature(state.get("param_groups", [])) == signature(optimizer.param_groups)
