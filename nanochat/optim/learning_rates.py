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

That was with whole matrices. In bands of 32 rows, moved after every 2,048 tokens, their rate is lower (other text, rows
of 128, seed 0):

    tokens     moves   matrices 0.008   0.012    0.016    0.017    0.022    0.03
    196,608       96                             2.102             2.102    2.106
    962,560      470            1.7707  1.7687            1.7775
"""

from __future__ import annotations

from typing import NamedTuple

# where the rule was anchored: the rates that were best for the tiny shape there
TOKENS_PER_STEP, STEPS, WIDTH = 2048, 244, 256
MATRIX, EMBEDDING, HEAD = 0.014, 0.3, 0.008
TOKENS_EXPONENT, STEPS_EXPONENT = 0.3, -0.4
TOKENS_PER_MOVE = 4096  # that Muon gathers before it moves
WIDTH_EXPONENT = -0.5  # of AdamW's rates (nanochat); Muon's updates have the same strength at any width


class LearningRates(NamedTuple):
    """One for each group of parameters; None where the rule is to decide."""

    matrices: float | None
    embedding: float | None
    head: float | None

    def or_else(self, rule: LearningRates) -> LearningRates:
        """These rates, and the rule's where there is none."""
        return LearningRates(*(own if own is not None else ruled for own, ruled in zip(self, rule, strict=True)))


def default_muon_every(tokens_per_step: int) -> int:
    """After how many steps Muon moves its matrices, where nobody says it: as many as bring 4,096 tokens.

    Orthogonalizing in bands takes about as many operations as learning from 100 to 150 tokens, at any width, but they
    are slower ones: at the tiny shape some 13 ms, where a step of 2,048 tokens takes 170. In
    whole matrices, moves after 4,096 tokens lost 0.4 % against moves after 2,048 (benchmarks/README.md).
    """
    return max(1, round(TOKENS_PER_MOVE / tokens_per_step))


def default_learning_rates(width: int, tokens_per_step: int, steps: float, muon_every: int = 1) -> LearningRates:
    """The rule.

    Args:
        width: of the model.
        tokens_per_step: that one step learns from.
        steps: of the whole run; infinite if nobody knows, which is taken for 1,000.
        muon_every: steps between two moves of the matrices.
    """

    def factor(tokens: int, moves: float) -> float:
        # a run of a few steps is a test, not a reason for rates that blow up
        by_steps = min((max(moves, 1) / STEPS) ** STEPS_EXPONENT, 2.0)
        return float((tokens / TOKENS_PER_STEP) ** TOKENS_EXPONENT * by_steps)

    steps = 1000 if steps == float("inf") else steps
    tables = factor(tokens_per_step, steps) * (width / WIDTH) ** WIDTH_EXPONENT
    matrices = factor(tokens_per_step * muon_every, steps / muon_every)
    return LearningRates(MATRIX * matrices, EMBEDDING * tables, HEAD * tables)
