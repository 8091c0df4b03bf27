"""Statistics of rollouts: sums over groups of answers, and the averages that are logged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanochat.evaluation.humaneval import pass_at_k
from nanochat.training.rollouts import Group


class RolloutSums:
    """Sums of one process over the steps since they were last logged.

    Attributes:
        values: the sums by name.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add(self, **values: float) -> None:
        """Adds to the sums of these names."""
        for name, value in values.items():
            self.values[name] = self.values.get(name, 0.0) + value

    def reset(self) -> None:
        """Starts new sums."""
        self.values = {}

    def state_dict(self) -> dict[str, Any]:
        """The sums, for a checkpoint: they belong to the next line of the log."""
        return dict(self.values)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self.values = dict(state)


def logged_k(samples: int) -> list[int]:
    """The k for which pass@k is logged: 1, the powers of two below ``samples``, and ``samples``."""
    return sorted({1, samples, *(2**power for power in range(1, samples.bit_length()) if 2**power < samples)})


def sum_over_groups(groups: Sequence[Group], samples: int) -> dict[str, float]:
    """Statistics summed over groups, so that they can be added over steps and processes before they are averaged.

    pass@k of a group is estimated without bias by :func:`~nanochat.evaluation.humaneval.pass_at_k` (arXiv 2107.03374).

    Args:
        groups: of answers.
        samples: answers in a group.
    """
    rewards = [[answer.reward for answer in group] for group in groups]
    correct = [sum(reward > 0 for reward in group) for group in rewards]
    return {
        "groups": float(len(groups)),
        "reward": sum(sum(group) / len(group) for group in rewards),
        "answer_tokens": sum(sum(answer.tokens for answer in group) / len(group) for group in groups),
        "no_signal": float(sum(len(set(group)) == 1 for group in rewards)),
        **{f"pass_at_{k}": sum(pass_at_k(samples, count, k) for count in correct) for k in logged_k(samples)},
    }


def average_over_groups(sums: dict[str, float]) -> dict[str, float]:
    """The means over groups, from the sums of :func:`sum_over_groups`."""
    groups = max(1.0, sums["groups"])
    return {name: value / groups for name, value in sums.items() if name != "groups"}
