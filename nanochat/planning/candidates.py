"""The models that a plan chooses among: the recipe of the tier tiny at other sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nanochat.planning.measured_runs import block_parameters

CONTEXT = 512
MOST_ROWS = 64  # of a micro-step, of 128 tokens each; larger steps are summed up


@dataclass(frozen=True)
class Candidate:
    """A size and the steps that it takes. Width, heads and rates follow from the depth and the step by rules.

    Attributes:
        depth: of the model; it is 64 x depth wide.
        vocab_size: tokens in the vocabulary.
        tokens_per_step: tokens that a step learns from.
        row_length: tokens in a row to train on.
    """

    depth: int
    vocab_size: int = 512
    tokens_per_step: int = 512
    row_length: int = 128

    @property
    def width(self) -> int:
        return 64 * self.depth

    @property
    def block_parameters(self) -> int:
        return block_parameters(self.depth, self.width)

    @property
    def batch_size(self) -> int:
        """Rows in a micro-step."""
        return min(MOST_ROWS * 128, self.tokens_per_step) // self.row_length

    @property
    def model(self) -> dict[str, Any]:
        """The settings of the LanguageModel, but for vocabulary and context, which those of the data say."""
        return {"depth": self.depth}

    @property
    def data(self) -> dict[str, int]:
        """The settings of the rows."""
        return {
            "vocab_size": self.vocab_size,
            "context": CONTEXT,
            "row_length": self.row_length,
            "batch_size": self.batch_size,
            "tokens_per_step": self.tokens_per_step,
        }


@dataclass(frozen=True)
class SearchSpace:
    """What is tried on a kind of machine.

    Attributes:
        depths: from small to large; sizes beyond the best one are not tried any more.
        timed: vocabularies that are timed; the time of others lies on a line through these.
        vocabularies: all that are offered.
        step: tokens in a step, at first.
        larger: times that, for the best size.
        row_length: tokens in a row.
    """

    depths: tuple[int, ...] = (2, 3, 4, 6, 8, 12)
    timed: tuple[int, int] = (512, 2048)
    vocabularies: tuple[int, ...] = (512, 1024, 2048, 4096)
    step: int = 512
    larger: tuple[int, ...] = (2, 4)
    row_length: int = 128


CPU_SEARCH = SearchSpace()
GPU_SEARCH = SearchSpace(depths=(4, 6, 8, 12, 16, 20), step=8192, larger=(2, 4, 8), row_length=CONTEXT)
