"""The base class of the LightningDataModules: rows, steps, validations, and the position in the training stream."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any

from lightning.pytorch import LightningDataModule

from nanochat.data.rank import rank_of
from nanochat.data.step_size import accumulate, count_micro_steps, resolve_row_length
from nanochat.data.stream_position import StreamPosition
from nanochat.data.tokens.batches import HeldOutBatches, TrainingLoader
from nanochat.data.training_data import TrainingData
from nanochat.data.validation_interval import set_validation_interval, validation_interval
from nanochat.options import at_least
from nanochat.tokenizer import Tokenizer

log = logging.getLogger(__name__)

VAL_ROW = 512  # longest row of held-out text in tokens, the same for every tier, so that scores are comparable


class RowsDataModule(LightningDataModule, TrainingData):
    """Rows of tokens for a LanguageModel: their size, the validations, and the position in the training stream.

    A subclass defines the rows: it implements :class:`TrainingData`, :meth:`_open_data`, the state of the training
    stream, and ``train_dataloader``.

    Args: those that all stages share, see :class:`~nanochat.data.text_data.TextDataModule`.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int,
        row_length: int | None,
        batch_size: int,
        tokens_per_step: int | None,
        val_tokens: int,
        validations: int,
        validate_all: bool,
        num_workers: int,
        seed: int | None,
    ) -> None:
        super().__init__()
        at_least(1, "data.", context=context, row_length=row_length, batch_size=batch_size)
        at_least(1, "data.", val_tokens=val_tokens, validations=validations)
        at_least(0, "data.", num_workers=num_workers)
        self.vocab_size = vocab_size
        self.context = context
        self.row_length = resolve_row_length(row_length, context)
        self.batch_size = batch_size
        self.val_tokens = val_tokens
        self.validations = validations
        self.validate_all = validate_all
        self.num_workers = num_workers
        self.seed = seed or 0
        self._tokens_per_step = tokens_per_step
        self.micro_steps()  # raises now if the step does not divide
        self._tokenizer: Tokenizer | None = None  # the checkpoint's
        self._position = StreamPosition()
        self._loader: TrainingLoader | None = None
        self._spaces_validations = False

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Uses this tokenizer, a checkpoint's, instead of training one on the corpus.

        Raises:
            ValueError: if it has another vocabulary size.
        """
        if tokenizer.vocab_size != self.vocab_size:
            raise ValueError(
                f"the checkpoint's vocabulary has {tokenizer.vocab_size:,} tokens: set --data.vocab_size to it"
            )
        self._tokenizer = tokenizer

    # ------------------------------------------------------------------------------------------- Lightning's hooks

    def setup(self, stage: str) -> None:
        """Opens what ``prepare_data`` prepared; sets gradient accumulation and the validation interval."""
        self._open_data()
        if stage == "fit" and self.trainer is not None:
            if self.trainer.accumulate_grad_batches == 1:  # not set by the user
                self.trainer.accumulate_grad_batches = self.micro_steps(self.trainer.world_size)
            self._spaces_validations = self.trainer.val_check_interval == 1.0  # not set by the user
            if self.trainer.max_steps > 0:
                self.space_validations(self.trainer.max_steps)

    @abstractmethod
    def _open_data(self) -> None:
        """Opens what ``prepare_data`` prepared, and sets ``held_out``."""

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint: the tokenizer, and the position in the training stream."""
        assert self.trainer is not None
        return {
            "tokenizer": self.tokenizer.to_dict(),
            "corpus": self.fingerprint,
            "seed": self.seed,
            "step": self.trainer.global_step,
            "seen": self.tokens_seen(self.trainer.global_step),
            **self._stream_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes at the checkpoint's position if it was trained on the same data, else at the beginning."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        if state_dict["corpus"] == self.fingerprint:
            self.seed = state_dict["seed"]
            self._load_stream_state(state_dict)
        elif self.trainer.is_global_zero:
            log.warning(
                "The checkpoint was trained on other data (%s, now %s): training reads %s from the beginning.",
                state_dict["corpus"],
                self.fingerprint,
                self.source,
            )
        self._position.start_step, self._position.start_tokens = state_dict["step"], state_dict["seen"]

    @abstractmethod
    def _stream_state(self) -> dict[str, Any]:
        """State of the training stream, as plain values."""

    @abstractmethod
    def _load_stream_state(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`_stream_state` returned."""

    def val_dataloader(self) -> HeldOutBatches:
        """The first ``val_tokens`` of the held-out rows during a run, all of them for ``validate``."""
        rank = rank_of(self.trainer)
        in_run = self.trainer is not None and self.trainer.state.fn == "fit"
        count = self.held_out.first(self.val_tokens) if in_run else len(self.held_out)
        return HeldOutBatches(self.held_out, count, self.tokenizer.bos, rank.number, rank.world_size)

    @property
    def val_predictions(self) -> int:
        """Tokens that each validation during a run scores."""
        return int(self.held_out.sizes[: self.held_out.first(self.val_tokens)].sum())

    @property
    def seconds_waited(self) -> float:
        """Seconds that training has waited for batches."""
        return self._loader.seconds_waited if self._loader is not None else 0.0

    # ------------------------------------------------------------------------------------------- steps

    def tokens_per_step(self, world_size: int = 1) -> int:
        """Tokens that one optimizer step trains on, over all devices."""
        if self._tokens_per_step is not None:
            return self._tokens_per_step
        micro_steps = self.trainer.accumulate_grad_batches if self.trainer is not None else 1
        return self.batch_size * self.row_length * world_size * micro_steps

    def micro_steps(self, world_size: int = 1) -> int:
        """Micro-steps that make one optimizer step.

        Raises:
            ValueError: if the step does not divide into micro-steps. The message names sizes that work.
        """
        return count_micro_steps(self._tokens_per_step, self.batch_size, self.row_length, world_size)

    def step_size_option(self, tokens: int) -> str:
        """The options that give a step this number of tokens, for messages."""
        return f"--data.tokens_per_step={tokens}"

    def take_fewer_rows(self, rows: int) -> None:
        """Reduces the batch size to a divisor of it, and accumulates more micro-steps: the step stays the same."""
        assert self.trainer is not None
        factor, self.batch_size = self.batch_size // rows, rows
        accumulate(self.trainer, self.trainer.accumulate_grad_batches * factor)

    def space_validations(self, steps: int, done: int = 0, left: int | None = None) -> None:
        """Spreads the validations evenly over a run, unless the user has set ``trainer.val_check_interval``.

        Args:
            steps: optimizer steps of the whole run.
            done: steps already taken.
            left: validations still to come, the last one at the end; None for all of them.
        """
        assert self.trainer is not None
        if self._spaces_validations and steps > done:
            left = min(self.validations if left is None else left, steps - done)
            set_validation_interval(self.trainer, validation_interval(steps, done, left))

    # ------------------------------------------------------------------------------------------- position

    def tokens_seen(self, step: int) -> int:
        """Tokens trained on in the first ``step`` steps, also if earlier steps were of another size."""
        assert self.trainer is not None
        return self._position.tokens_after(step, self.tokens_per_step(self.trainer.world_size))

    @property
    def _units_per_step(self) -> int:
        """How far one step moves in the training stream; here in rows."""
        assert self.trainer is not None
        return self.trainer.accumulate_grad_batches * self.trainer.world_size * self.batch_size

    def _next_position(self) -> int:
        """Position in the training stream of the next step."""
        if self.trainer is None:
            return self._position.start
        return self._position.after(self.trainer.global_step, self._units_per_step)
