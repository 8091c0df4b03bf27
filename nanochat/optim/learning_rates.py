"""Learning rates that fit a model and a batch, where the user has not set them."""

from __future__ import annotations

from typing import NamedTuple


class LearningRates(NamedTuple):
    """One for each kind of parameter; None where the rule is to decide."""

    matrix: float | None
    embedding: float | None
    head: float | None

    def or_else(self, rule: LearningRates) -> LearningRates:
        """These rates, and the rule's where there is none."""
        return LearningRates(*(own if own is not None else ruled for own, ruled in zip(self, rule, strict=True)))


def default_learning_rates(width: int, tokens_per_step: int) -> LearningRates:
    return LearningRates(0.02, 0.2, 0.006)
