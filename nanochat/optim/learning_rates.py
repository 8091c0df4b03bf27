"""Default learning rates as a function of width, batch size and run length.

The rule is a power law in tokens per step and in steps, fitted to runs of the tiny shape; benchmarks/README.md
("Learning rates") has the measurements. Larger batches want larger rates, and so do shorter runs. The exponents agree
with known settings: 0.02 to 0.03 for matrices at 2,048 to 4,096 tokens a step in 500 to 1,000 steps, and nanochat's
0.02 at 524,288 tokens a step.
"""

from __future__ import annotations

from typing import NamedTuple

# The anchor: the best rates found at this batch size, length and width.
TOKENS_PER_STEP, STEPS, WIDTH = 2048, 244, 256
MATRIX, EMBEDDING, HEAD = 0.014, 0.3, 0.008  # matrices: in bands of 32 rows; whole ones want 0.02
TOKENS_EXPONENT, STEPS_EXPONENT = 0.3, -0.4
WIDTH_EXPONENT = -0.5  # of AdamW's rates (nanochat); the size of Muon's updates does not depend on the width
TOKENS_PER_MUON_UPDATE = 4096
UNKNOWN_STEPS = 1000  # assumed for a run whose length is unknown
MAX_STEPS_FACTOR = 2.0  # a run of a few steps is a test and gets no extreme rates


class LearningRates(NamedTuple):
    """A learning rate for each parameter group; None where the rule decides."""

    matrices: float | None
    embedding: float | None
    head: float | None

    def or_else(self, rule: LearningRates) -> LearningRates:
        """These rates, with the rule's in place of None."""
        return LearningRates(*(own if own is not None else ruled for own, ruled in zip(self, rule, strict=True)))


def default_muon_every(tokens_per_step: int) -> int:
    """Steps between two Muon updates: as many as process 4,096 tokens, at least 1.

    Orthogonalizing in bands takes about as many operations as training on 100 to 150 tokens, at any width, but runs at
    a lower rate: at the tiny shape 13 ms, where a step of 2,048 tokens takes 170.
    """
    return max(1, round(TOKENS_PER_MUON_UPDATE / tokens_per_step))


def default_learning_rates(width: int, tokens_per_step: int, steps: float, muon_every: int = 1) -> LearningRates:
    """The rule.

    Args:
        width: size of the residual stream.
        tokens_per_step: tokens in a step of the optimizer, over all devices.
        steps: steps of the whole run; infinite if unknown.
        muon_every: steps between two Muon updates.
    """

    def factor(tokens: int, updates: float) -> float:
        by_steps = min((max(updates, 1) / STEPS) ** STEPS_EXPONENT, MAX_STEPS_FACTOR)
        return float((tokens / TOKENS_PER_STEP) ** TOKENS_EXPONENT * by_steps)

    steps = UNKNOWN_STEPS if steps == float("inf") else steps
    tables = factor(tokens_per_step, steps) * (width / WIDTH) ** WIDTH_EXPONENT
    matrices = factor(tokens_per_step * muon_every, steps / muon_every)
    return LearningRates(MATRIX * matrices, EMBEDDING * tables, HEAD * tables)
