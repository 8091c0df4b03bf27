"""The LightningDataModule of pretraining: a corpus as endless rows to train on, and held-out rows to score."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import replace
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from nanochat.data.ahead import Ahead, ignore_warnings
from nanochat.data.batches import HeldOutBatches, TrainingBatches, TrainingLoader
from nanochat.data.packing import HeldOutRows, Stretch, TokenStream
from nanochat.data.pieces import Pieces, StreamedPieces
from nanochat.data.prepare import Prepared, Sources, prepare
from nanochat.tokenizer import Tokenizer

log = logging.getLogger(__name__)

VAL_ROW = 512  # predictions in a row of held-out text, for every tier: so that scores can be compared


def resolve_row_length(row_length: int | None, context: int) -> int:
    """Tokens in a row to train on: as many as were asked for, or the context, but never more than the context."""
    return min(row_length or context, context)


class TextDataModule(LightningDataModule):
    """Documents packed into rows without padding, in an order that depends on the seed alone.

    Args:
        corpus: "embedded" (the documentation that came with Python and its packages, so that nothing need be
            downloaded); the path of your own text: a file, or a folder of .txt, .md, .py, .jsonl and .parquet files;
            or a corpus on the Hugging Face hub: climbmix, fineweb-edu, tinystories, or hf://owner/name (also
            hf://owner/name@revision/folder).
        val_corpus: held-out text of your own, given like the corpus; null holds out a part of the corpus.
        column: the column of .parquet files, or the field of .jsonl records, that holds the text.
        split: of a corpus on the hub: which split to train on.
        max_shards: of a corpus on the hub: use no more than its first so many files, and so no more disk than they
            take (for climbmix about 0.2 GB each); null uses all, each fetched when training comes near it.
        vocab_size: number of tokens in the vocabulary, the nine special ones included; at least 265.
        context: tokens in a row, and the longest text that the model can take in.
        row_length: tokens in a row to train on, at most the context: in shorter rows attention costs less, so more of
            them fit into the same time. null takes the context.
        batch_size: rows per device and micro-step. Lower it when memory runs out; the result stays the same.
        tokens_per_step: tokens that one step of the optimizer learns from, over all devices; gradients are
            accumulated over as many micro-steps as that takes. null takes one micro-step.
        val_tokens: tokens of the held-out part that are scored each time during a run; `validate` scores all of it.
        validations: how many times during a run, unless trainer.val_check_interval says it; fewer where they would take
            more than 4 % of --plan.minutes.
        validate_all: whether to score all of the held-out part at the end of the run.
        num_workers: processes that prepare batches; 0 prepares them in the training process, which costs next to
            nothing because the tokens lie ready in a file. Of a corpus of more than 128 MB the tokens are made while
            training runs, by as many processes (at least one).
        seed: of the order of documents; null takes the run's seed.

    Raises:
        ValueError: if a number is out of range, or the corpus is missing, unreadable or too small.
    """

    def __init__(
        self,
        corpus: str = "embedded",
        val_corpus: str | None = None,
        column: str = "text",
        split: str = "train",
        max_shards: int | None = None,
        vocab_size: int = 512,
        context: int = 512,
        row_length: int | None = None,
        batch_size: int = 4,
        tokens_per_step: int | None = None,
        val_tokens: int = 64_000,
        validations: int = 5,
        validate_all: bool = True,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("context", context, 1),
            ("row_length", row_length if row_length is not None else context, 1),
            ("batch_size", batch_size, 1),
            ("val_tokens", val_tokens, 1),
            ("validations", validations, 1),
            ("num_workers", num_workers, 0),
            ("max_shards", max_shards if max_shards is not None else 1, 1),
        ):
            if value < least:
                raise ValueError(f"--data.{name} must be at least {least}, not {value}")
        self.save_hyperparameters()
        self.sources = Sources(corpus, val_corpus, column, split, max_shards)
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
        self._prepared: Prepared | None = None
        # where in the stream, at which step, and after how many predictions this run began or resumed
        self._start_tokens = self._start_step = self._start_seen = 0
        self._origin: Stretch | None = None  # a stretch of the stream that an earlier process has seen
        self._stream: TokenStream | None = None
        self._ahead: Ahead | None = None
        self._loader: TrainingLoader | None = None
        self._spaces_validations = False

    # ------------------------------------------------------------------------------------------ preparation

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Takes this tokenizer, a checkpoint's, instead of training one on the corpus."""
        if tokenizer.vocab_size != self.vocab_size:
            raise ValueError(
                f"the checkpoint's vocabulary has {tokenizer.vocab_size:,} tokens: set --data.vocab_size to it"
            )
        self._tokenizer = tokenizer

    def _prepare(self) -> Prepared:
        fitting = self.trainer is None or self.trainer.state.fn == "fit"
        return prepare(self.sources, self.vocab_size, self._tokenizer, train=fitting)

    def prepare_data(self) -> None:
        """Scans, trains the tokenizer and tokenizes, on one process of each machine; all of it is then cached."""
        pieces = self._prepare().train
        if isinstance(pieces, StreamedPieces):
            pieces.forget_errors()
            TokenStream(pieces, self.seed).locate(0)  # what is wrong with the corpus is found out before the start

    def setup(self, stage: str) -> None:
        """Opens what :meth:`prepare_data` made, and says how many micro-steps make a step."""
        self._prepared = self._prepare()
        self.held_out = HeldOutRows(self.prepared.val, min(VAL_ROW, self.context))
        self._check_sizes()
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

    def teardown(self, stage: str) -> None:
        """Ends the processes that read ahead."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("fit")

    @property
    def prepared(self) -> Prepared:
        """The corpus and the tokenizer; there after ``setup``."""
        assert self._prepared is not None, "setup() comes first"
        return self._prepared

    @property
    def pieces(self) -> Pieces:
        """What is trained on; there after ``setup`` to train."""
        assert self.prepared.train is not None, "this was set up to score"
        return self.prepared.train

    @property
    def tokenizer(self) -> Tokenizer:
        return self.prepared.tokenizer

    def _check_sizes(self) -> None:
        held_out = self.held_out.predictions
        train = self.prepared.train.tokens if self.prepared.train is not None else None
        if held_out < self.held_out.length:
            raise ValueError(
                f"the corpus is too small: its held-out part has {held_out:,} tokens, less than one row of "
                f"{self.held_out.length}; add text, or give held-out text with --data.val_corpus"
            )
        if train is not None and train <= self.row_length:
            raise ValueError(
                f"the corpus is too small: {train:,} tokens to train on do not fill one row of {self.row_length}; "
                "add text, or lower --data.context"
            )

    # ---------------------------------------------------------------------------------------- steps and place

    def tokens_per_step(self, world_size: int = 1) -> int:
        """Tokens that one step of the optimizer learns from, over all devices."""
        if self._tokens_per_step is not None:
            return self._tokens_per_step
        accumulate = self.trainer.accumulate_grad_batches if self.trainer is not None else 1
        return self.batch_size * self.row_length * world_size * accumulate

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

    def _place(self) -> int:
        """Where in the stream the next step begins, in tokens, after as many steps as the trainer has done."""
        assert self.trainer is not None
        rows = self.trainer.accumulate_grad_batches * self.trainer.world_size * self.batch_size
        return self._start_tokens + (self.trainer.global_step - self._start_step) * rows * (self.row_length + 1)

    def tokens_seen(self, step: int) -> int:
        """Tokens that the model has learned from after so many steps, also if they were of another size before."""
        assert self.trainer is not None
        return self._start_seen + (step - self._start_step) * self.tokens_per_step(self.trainer.world_size)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the tokenizer, and the place in the stream."""
        assert self.trainer is not None
        return {
            "tokenizer": self.tokenizer.to_dict(),
            "corpus": self.prepared.fingerprint,
            "seed": self.seed,
            "place": self._place(),
            "origin": self._last_stretch(),
            "step": self.trainer.global_step,
            "seen": self.tokens_seen(self.trainer.global_step),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where the checkpoint stood, if it is the same corpus."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        if state_dict["corpus"] != self.prepared.fingerprint:
            if self.trainer.is_global_zero:
                log.warning(
                    "The checkpoint was trained on another corpus (%s, this one is %s): it is read from its beginning.",
                    state_dict["corpus"],
                    self.prepared.fingerprint,
                )
        else:
            self.seed = state_dict["seed"]
            self._start_tokens = state_dict["place"]
            if (origin := state_dict.get("origin")) is not None:
                self._origin = Stretch(origin[0], (origin[1][0], origin[1][1]), origin[2], origin[3])
                shards = self.prepared.train.corpus.shards if isinstance(self.prepared.train, StreamedPieces) else ()
                if shards and self._origin.piece[0] >= len(shards):
                    raise ValueError(
                        f"the checkpoint stands in file {self._origin.piece[0] + 1} of the corpus, but only "
                        f"{len(shards)} are to be used: raise --data.max_shards"
                    )
        self._start_step, self._start_seen = state_dict["step"], state_dict["seen"]

    def _last_stretch(self) -> list[Any] | None:
        """Where the stream has been read last, in plain numbers."""
        if self._stream is None:
            return None
        stretch = self._stream.locate(max(self._start_tokens, self._place() - 1))
        return [stretch.epoch, list(stretch.piece), stretch.start, stretch.end]

    # -------------------------------------------------------------------------------------------- the loaders

    def train_dataloader(self) -> TrainingLoader:
        rank, world_size, cuda = self._devices()
        start = self._place() if self.trainer is not None else 0
        pieces = self.pieces
        if isinstance(pieces, StreamedPieces):
            pieces = self._read_ahead(pieces, world_size)
        batches = TrainingBatches(
            pieces, self.seed, start, self.batch_size, self.row_length, rank, world_size, self._origin
        )
        self._stream = TokenStream(pieces, self.seed, self._origin)

        def on_batch(count: int) -> None:
            """Tells those who read ahead where the last batch was."""
            if self._ahead is not None:
                assert self._stream is not None
                read = max(0, count - 1) * world_size * batches.size
                stretch = self._stream.locate(start + read) if count else self._first_stretch
                self._ahead.reading(stretch.epoch, stretch.piece, self._tokens_left(stretch))

        loader = DataLoader(
            batches,
            batch_size=None,  # the dataset yields whole batches
            num_workers=self.num_workers,
            pin_memory=cuda,
            worker_init_fn=_leave_signals_to_parent,
        )
        self._loader = TrainingLoader(loader, on_batch)
        return self._loader

    def _read_ahead(self, pieces: StreamedPieces, world_size: int) -> StreamedPieces:
        """Starts the processes that make the pieces, on one rank of each machine; returns pieces that wait for them."""
        self._first_stretch = self._origin or TokenStream(pieces, self.seed).locate(0)
        if self.trainer is None or self.trainer.local_rank == 0:
            in_flight = (2 * self.num_workers + 2) * world_size  # batches, of all ranks
            window = in_flight * self.batch_size * (self.row_length + 1)
            self._ahead = Ahead(pieces, self.seed, max(1, self.num_workers), window)
        return replace(pieces, when_missing="wait")

    def _tokens_left(self, stretch: Stretch) -> float:
        """Tokens that the run still needs, from the beginning of a stretch on."""
        if self.trainer is None or self.trainer.max_steps < 0:
            return math.inf
        steps = self.trainer.max_steps - self._start_step
        rows = self.trainer.accumulate_grad_batches * self.trainer.world_size * self.batch_size
        return self._start_tokens + steps * rows * (self.row_length + 1) - stretch.start

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


def _leave_signals_to_parent(worker: int) -> None:
    """What a terminal, torchrun or a cluster sends reaches a whole group of processes; only the main one answers.

    SIGTERM is not ignored, because by it the main process ends a worker that hangs: so a worker leaves the group.
    """
    ignore_warnings()
    if hasattr(os, "setpgrp"):
        os.setpgrp()
