"""What the LightningDataModules of all stages share: rows and steps, validations, the place in a run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from nanochat.data.tokens.batches import HeldOutBatches, TrainingLoader
from nanochat.data.tokens.held_out_rows import HeldOut
from nanochat.data.tokens.workers import leave_signals_to_parent
from nanochat.options import at_least
from nanochat.tokenizer import Tokenizer

VAL_ROW = 512  # tokens in a row of held-out text at most, for every tier: so that scores can be compared


def resolve_row_length(row_length: int | None, context: int) -> int:
    """Tokens in a row to train on: as many as were asked for, or the context, but never more than the context."""
    return min(row_length or context, context)


class RowsDataModule(LightningDataModule):
    """Rows of tokens for a LanguageModel: how many make a step, when they are scored, where a run stands.

    What the rows are made of is said by the classes below this one, in :meth:`_prepare_rows` and the loaders.

    Args: those that every stage has, see :class:`~nanochat.data.text_data.TextDataModule`.
    """

    held_out: HeldOut  # there after setup

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
        self.micro_steps()  # refuses at once what cannot be dealt out evenly
        self._tokenizer: Tokenizer | None = None  # a checkpoint's own
        # at which step, and after how many predictions this run began or resumed
        self._start_step = self._start_seen = 0
        self._loader: TrainingLoader | None = None
        self._spaces_validations = False

    # ---------------------------------------------------------------------------------------- what there is

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """There after ``setup``."""

    @property
    @abstractmethod
    def source(self) -> str:
        """What is learned from, as the user gave it."""

    @property
    @abstractmethod
    def extent(self) -> str:
        """How much of it there is, in words."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A short hash of all of it: two runs with the same one learn and are scored on the same."""

    @property
    def all_tokens(self) -> int | None:
        """Tokens in all of what is learned from; None where that is not known or has no end."""
        return None

    @property
    def target_share(self) -> float:
        """The share of a row's tokens that are learned, on average."""
        return 1.0

    @abstractmethod
    def prompt(self, text: str) -> list[int]:
        """Ids that ask the model to go on with a text, or to answer it."""

    @property
    @abstractmethod
    def stop_ids(self) -> Sequence[int]:
        """Ids that end what the model says."""

    # ------------------------------------------------------------------------------------------ preparation

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Takes this tokenizer, a checkpoint's, instead of training one on the corpus."""
        if tokenizer.vocab_size != self.vocab_size:
            raise ValueError(
                f"the checkpoint's vocabulary has {tokenizer.vocab_size:,} tokens: set --data.vocab_size to it"
            )
        self._tokenizer = tokenizer

    @abstractmethod
    def _prepare_rows(self) -> None:
        """Opens what :meth:`prepare_data` made, and sets ``held_out``."""

    def setup(self, stage: str) -> None:
        """Opens what :meth:`prepare_data` made, and says how many micro-steps make a step."""
        self._prepare_rows()
        if stage == "fit" and self.trainer is not None:
            if self.trainer.accumulate_grad_batches == 1:  # not chosen by the user
                self.trainer.accumulate_grad_batches = self.micro_steps(self.trainer.world_size)
            self._spaces_validations = self.trainer.val_check_interval == 1.0  # the user has not said when they are due
            if self.trainer.max_steps > 0:
                self.space_validations(self.trainer.max_steps)

    def space_validations(self, steps: int, done: int = 0, left: int | None = None) -> None:
        """Spreads the validations evenly over a run, unless the user has said when they are due.

        Args:
            steps: of the whole run.
            done: those that have been taken.
            left: validations still to come, the last of them at the end; all if None.
        """
        assert self.trainer is not None
        if self._spaces_validations and steps > done:
            left = min(self.validations if left is None else left, steps - done)

            # Lightning validates at each multiple of a number of micro-steps: as many of them as are to come must lie
            # between now and the end, the nearest one as far away as can be
            def fits(interval: int) -> bool:
                return steps // interval - done // interval == left and (not done or done % interval > 0)

            most = min(steps, left * steps // (steps - done) + 1)
            fitting = [steps // parts for parts in range(1, most + 1) if fits(steps // parts)]
            interval = min(fitting, default=max(1, steps // most))
            interval *= self.trainer.accumulate_grad_batches
            self.trainer.val_check_interval = self.trainer.val_check_batch = interval
            self.trainer.check_val_every_n_epoch = None  # the stream has no end, so there are no epochs

    # ---------------------------------------------------------------------------------------- steps and place

    def tokens_per_step(self, world_size: int = 1) -> int:
        """Tokens that one step of the optimizer learns from, over all devices."""
        if self._tokens_per_step is not None:
            return self._tokens_per_step
        accumulate = self.trainer.accumulate_grad_batches if self.trainer is not None else 1
        return self.batch_size * self.row_length * world_size * accumulate

    def step_size_option(self, tokens: int) -> str:
        """The options by which a step learns from so many tokens."""
        return f"--data.tokens_per_step={tokens}"

    def micro_steps(self, world_size: int = 1) -> int:
        """Micro-steps that make one step.

        Raises:
            ValueError: if the step does not divide into micro-steps, naming sizes that do.
        """
        micro = self.batch_size * self.row_length * world_size
        if self._tokens_per_step is None:
            return 1
        if self._tokens_per_step % micro:
            devices = f" on {world_size} devices" if world_size > 1 else ""
            step = max(1, round(self._tokens_per_step / micro)) * micro
            raise ValueError(
                f"a step of {self._tokens_per_step:,} tokens does not divide into micro-steps of {self.batch_size} "
                f"rows of {self.row_length}{devices}: set --data.tokens_per_step={step}, or another --data.batch_size"
            )
        return self._tokens_per_step // micro

    def take_fewer_rows(self, rows: int) -> None:
        """From now on a micro-step has so many rows, a part of those before; a step learns from as many as it did."""
        assert self.trainer is not None
        parts, self.batch_size = self.batch_size // rows, rows
        self._take_micro_steps(self.trainer.accumulate_grad_batches * parts)

    def _take_micro_steps(self, count: int) -> None:
        """From now on so many make a step; validations come after as many steps as they did."""
        assert self.trainer is not None
        before, self.trainer.accumulate_grad_batches = self.trainer.accumulate_grad_batches, count
        if isinstance(self.trainer.val_check_interval, int):  # micro-steps
            self.trainer.val_check_interval = self.trainer.val_check_interval * count // before

    def _rows_since_start(self) -> int:
        """Rows that this run has taken, over all devices, since it began or resumed."""
        assert self.trainer is not None
        rows = self.trainer.accumulate_grad_batches * self.trainer.world_size * self.batch_size
        return (self.trainer.global_step - self._start_step) * rows

    def tokens_seen(self, step: int) -> int:
        """Tokens that the model has learned from after so many steps, also if they were of another size before."""
        assert self.trainer is not None
        return self._start_seen + (step - self._start_step) * self.tokens_per_step(self.trainer.world_size)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the tokenizer, and how far the run has come."""
        assert self.trainer is not None
        return {
            "tokenizer": self.tokenizer.to_dict(),
            "corpus": self.fingerprint,
            "seed": self.seed,
            "step": self.trainer.global_step,
            "seen": self.tokens_seen(self.trainer.global_step),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where the checkpoint stood."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self._go_on(state_dict)
            self._start_step, self._start_seen = state_dict["step"], state_dict["seen"]

    @abstractmethod
    def _go_on(self, state_dict: dict[str, Any]) -> None:
        """Takes its place from the checkpoint."""

    # -------------------------------------------------------------------------------------------- the loaders

    def _data_loader(self, batches: Any, cuda: bool) -> DataLoader[Any]:
        return DataLoader(
            batches,
            batch_size=None,  # the dataset yields whole batches
            num_workers=self.num_workers,
            pin_memory=cuda,
            worker_init_fn=leave_signals_to_parent,
        )

    @property
    def seconds_waited(self) -> float:
        """How long training has waited for batches."""
        return self._loader.seconds_waited if self._loader is not None else 0.0

    def val_dataloader(self) -> HeldOutBatches:
        """A fixed part of the held-out rows during a run, all of them for ``validate``."""
        rank, world_size, _ = self._devices()
        in_run = self.trainer is not None and self.trainer.state.fn == "fit"
        count = self.held_out.first(self.val_tokens) if in_run else len(self.held_out)
        return HeldOutBatches(self.held_out, count, self.tokenizer.bos, rank, world_size)

    @property
    def val_predictions(self) -> int:
        """Tokens that each validation during a run scores."""
        return int(self.held_out.sizes[: self.held_out.first(self.val_tokens)].sum())

    def _devices(self) -> tuple[int, int, bool]:
        if self.trainer is None:
            return 0, 1, False
        return (
            self.trainer.global_rank,
            self.trainer.world_size,
            self.trainer.strategy.root_device.type == "cuda",
        )
