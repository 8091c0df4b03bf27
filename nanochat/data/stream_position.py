"""Where a run reads its endless stream of training data, as a function of the optimizer step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class StreamPosition:
    """The position at which a run started or resumed. Every step since then moves it by the same amount.

    Each stage counts its stream in its own unit: tokens of text, rows of conversations, or questions.

    Attributes:
        start: position of the first step of this run, in units of the stream.
        start_step: optimizer steps taken before this run started or resumed.
        start_tokens: tokens trained on before that. Earlier steps may have been of another size.
    """

    start: int = 0
    start_step: int = 0
    start_tokens: int = 0

    def after(self, step: int, units_per_step: int) -> int:
        """Position of the step that follows the first ``step`` steps."""
        return self.start + (step - self.start_step) * units_per_step

    def tokens_after(self, step: int, tokens_per_step: int) -> int:
        """Tokens trained on in the first ``step`` steps."""
        return self.start_tokens + (step - self.start_step) * tokens_per_step
