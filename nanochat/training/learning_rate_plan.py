"""The learning rates of a run: full values, a schedule that scales them, and changes of the run's length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from nanochat.optim.learning_rates import LearningRates
from nanochat.optim.schedule import learning_rate_factor


@dataclass
class LearningRatePlan:
    """Full learning rates from the user or a rule, and the schedule: warm-up, constant, linear warm-down.

    Attributes:
        chosen: full learning rates that the user has set; None where the rule decides.
        warmup_steps: steps over which the learning rates rise from zero.
        warmdown: last fraction of the run, over which they fall.
        final: what they fall to, as a fraction of their full value.
        total_steps: steps of the whole run; infinite where a time limit ends it.
    """

    chosen: LearningRates
    warmup_steps: int
    warmdown: float
    final: float
    total_steps: float = math.inf

    def full(self, rule: LearningRates) -> dict[str, float]:
        """Full learning rates by parameter group: the user's, and the rule's where there is none."""
        return self.chosen.or_else(rule)._asdict()

    def factor(self, step: int, total_steps: float | None = None) -> float:
        """The factor on the full learning rates at a step, for a run of ``total_steps`` (None: of the plan)."""
        total_steps = self.total_steps if total_steps is None else total_steps
        return learning_rate_factor(step, total_steps, self.warmup_steps, self.warmdown, self.final)

    def is_constant(self, step: int, total_steps: float) -> bool:
        """Whether the warm-down of a run of ``total_steps`` has not begun at a step."""
        return step <= (1 - self.warmdown) * total_steps

    def change_length(
        self, total_steps: int, done: int, rule: LearningRates, optimizer: Optimizer, scheduler: Any
    ) -> None:
        """Gives the run another length, with the learning rates that the rule has for it.

        Args:
            total_steps: steps of the whole run.
            done: steps already taken.
            rule: the rule's full learning rates for that length.
            optimizer: whose groups get the new rates.
            scheduler: the optimizer's LambdaLR.
        """
        self.total_steps = total_steps
        full = self.full(rule)
        for index, group in enumerate(optimizer.param_groups):
            group["initial_lr"] = scheduler.base_lrs[index] = full[group["name"]]
            group["lr"] = group["initial_lr"] * self.factor(done)
