"""The models that ``plan`` compares: the recipe of the tier tiny at other sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CONTEXT = 512
ROW_LENGTH = 128
MAX_MICRO_STEP_TOKENS = 64 * ROW_LENGTH  # larger steps accumulate gradients


def block_parameters(depth: int, width: int) -> int:
    """Parameters of all blocks: 4 matrices of width x width for attention, and 8 width^2 parameters for the MLP."""
    return 12 * depth * width**2


@dataclass(frozen=True)
class Candidate:
    """A model and its batch size. Width, heads and learning rates follow from them by the rules of ``fit``.

    Attributes:
        depth: number of blocks; the width is 64 x depth.
        vocab_size: number of tokens in the vocabulary.
        tokens_per_step: tokens per optimizer step.
        row_length: tokens in a training row.
    """

    depth: int
    vocab_size: int = 512
    tokens_per_step: int = 512
    row_length: int = ROW_LENGTH

    @property
    def width(self) -> int:
        return 64 * self.depth

    @property
    def block_parameters(self) -> int:
        return block_parameters(self.depth, self.width)

    @property
    def batch_size(self) -> int:
        """Rows in a micro-step."""
        return min(MAX_MICRO_STEP_TOKENS, self.tokens_per_step) // self.row_length

    @property
    def model(self) -> dict[str, Any]:
        """Options of the LanguageModel; vocabulary and context are those of the data."""
        return {"depth": self.depth}

    @property
    def data(self) -> dict[str, int]:
        """Options of the data module."""
        return {
            "vocab_size": self.vocab_size,
            "context": CONTEXT,
            "row_length": self.row_length,
            "batch_size": self.batch_size,
            "tokens_per_step": self.tokens_per_step,
        }


@dataclass(frozen=True)
class SearchSpace:
    """The candidates for a kind of machine.

    Attributes:
        depths: in ascending order; the search stops at the first depth that is clearly worse than the best.
        timed_vocab_sizes: the two vocabularies that are timed; times of the others lie on a line through these.
        vocab_sizes: all vocabularies.
        tokens_per_step: of the first search.
        step_multiples: larger steps to try with the best size, as multiples of ``tokens_per_step``.
        row_length: tokens in a row.
    """

    depths: tuple[int, ...] = (2, 3, 4, 6, 8, 12)
    timed_vocab_sizes: tuple[int, int] = (512, 2048)
    vocab_sizes: tuple[int, ...] = (512, 1024, 2048, 4096)
    tokens_per_step: int = 512
    step_multiples: tuple[int, ...] = (2, 4)
    row_length: int = ROW_LENGTH


CPU_SEARCH = SearchSpace()
GPU_SEARCH = SearchSpace(
    depths=(4, 6, 8, 12, 16, 20), tokens_per_step=8192, step_multiples=(2, 4, 8), row_length=CONTEXT
)
