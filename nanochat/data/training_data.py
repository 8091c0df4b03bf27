"""The interface by which training, plan and summary use any kind of training data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from nanochat.data.tokens.held_out_rows import HeldOut
from nanochat.tokenizer import Tokenizer


class TrainingData(ABC):
    """Properties of the data that a model is trained and scored on. Available after ``setup`` of the data module.

    Attributes:
        held_out: the rows to score.
    """

    held_out: HeldOut

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the rows."""

    @property
    @abstractmethod
    def source(self) -> str:
        """Name of the data, as the user gave it."""

    @property
    @abstractmethod
    def extent(self) -> str:
        """Size of the data, in words."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Short hash of the data: runs with the same one train and are scored on the same."""

    @property
    def all_tokens(self) -> int | None:
        """Tokens in one pass over the data; None if that is unknown or the data has no end."""
        return None

    @property
    def target_share(self) -> float:
        """Mean share of a row's tokens that are targets."""
        return 1.0

    @abstractmethod
    def prompt(self, text: str) -> list[int]:
        """Ids that ask the model to continue a text (base model) or to answer it (chat model)."""

    @property
    @abstractmethod
    def stop_ids(self) -> Sequence[int]:
        """Ids that end a completion."""
