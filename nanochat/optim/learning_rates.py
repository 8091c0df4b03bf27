"""Learning rates that fit a model, a batch and a run, where the user has not set them.

The rule was fitted to runs of the tiny shape on the embedded corpus, each with 500,000 tokens in rows of 256, with all
rates scaled together (val/bpb, seed 0, November 2026):

    tokens a step   steps   rates x 1/2   x 1      x 2      x 4     (x 1: matrices 0.02, embedding 0.2, head 0.006)
              512     976      2.216    2.297
             2048     244               2.301    2.312
             8192      61               2.769    2.591    2.510

    2048 tokens a step, one rate at a time:  matrices 0.01: 2.525   0.04: 2.291
                                             embedding 0.05: 2.324   0.6: 2.313
                                             head 0.002: 2.348       0.02: 2.324

So larger batches want larger rates, and so do fewer steps. The exponents also meet what is known from elsewhere: 0.02
to 0.03 for matrices at 2,048 to 4,096 tokens a step in 500 to 1,000 steps, and nanochat's 0.02 at 524,288 tokens.
"""

from __future__ import annotations

from typing import NamedTuple

# where the rule was anchored: the rates that were best for the tiny shape there
TOKENS_PER_STEP, STEPS, WIDTH = 2048, 244, 256
MATRIX, EMBEDDING, HEAD = 0.03, 0.3, 0.008
TOKENS_EXPONENT, STEPS_EXPONENT = 0.3, -0.4
WIDTH_EXPONENT = -0.5  # of AdamW's rates (nanochat); Muon's updates have the same strength at any width


class LearningRates(NamedTuple):
    """One for each kind of parameter; None where the rule is to decide."""

    matrix: float | None
    embedding: float | None
    head: float | None

    def or_else(self, rule: LearningRates) -> LearningRates:
        """These rates, and the rule's where there is none."""
        return LearningRates(*(own if own is not None else ruled for own, ruled in zip(self, rule, strict=True)))


def default_learning_rates(width: int, tokens_per_step: int, steps: float) -> LearningRates:
    """The rule.

    Args:
        width: of the model.
        tokens_per_step: that one step learns from.
        steps: of the whole run; infinite if nobody knows, which is taken for 1,000.
    """
    steps = 1000 if steps == float("inf") else max(steps, 1)
    # a run of a few steps is a test, not a reason for rates that blow up
    by_steps = min((steps / STEPS) ** STEPS_EXPONENT, 2.0)
    factor = (tokens_per_step / TOKENS_PER_STEP) ** TOKENS_EXPONENT * by_steps
    by_width = (width / WIDTH) ** WIDTH_EXPONENT
    return LearningRates(MATRIX * factor, EMBEDDING * factor * by_width, HEAD * factor * by_width)
