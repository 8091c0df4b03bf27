"""The LightningDataModule of pretraining: a corpus as endless rows to train on, and held-out rows to score."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from nanochat.data.packing import HeldOutRows, TokenStream
from nanochat.data.prepare import Prepared, TokenFile, prepare
from nanochat.model import IGNORE
from nanochat.tokenizer import Tokenizer

Batch = tuple[Tensor, Tensor]  # ids and targets, both (rows, time), int64

VAL_ROW = 512  # predictions in a row of held-out text, for every tier: so that scores can be compared
VAL_BATCH_TOKENS = 8192  # held-out rows are scored in batches of about this many tokens


def resolve_row_length(row_length: int | None, context: int) -> int:
    """Tokens in a row to train on: as many as were asked for, or the context, but never more than the context."""
    return min(row_length or context, context)


class TrainingBatches(IterableDataset[Batch]):
    """This rank's part of the endless token stream, in batches; the same whatever the number of workers.

    Args:
        file: the documents.
        seed: of their order.
        start: place in the stream, in tokens, of the first row of the first step.
        rows: rows in a batch.
        row_length: predictions in a row; a row takes one token more from the stream.
        rank: which of the processes this is: each takes every ``world_size``-th batch.
        world_size: number of processes.
    """

    def __init__(
        self, file: TokenFile, seed: int, start: int, rows: int, row_length: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.file, self.seed, self.start = file, seed, start
        self.rows, self.row_length = rows, row_length
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[Batch]:
        # The loader takes one batch from each worker in turn, so workers that take every n-th batch give the order
        # that a single process would.
        worker = get_worker_info()
        batch, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        stream = TokenStream(self.file, self.seed)
        size = self.rows * (self.row_length + 1)
        while True:
            place = self.start + (batch * self.world_size + self.rank) * size
            tokens = torch.from_numpy(stream.read(place, size)).view(self.rows, self.row_length + 1)
            yield tokens[:, :-1], tokens[:, 1:]
            batch += step


class HeldOutBatches:
    """Held-out rows in batches of similar lengths, each row in one batch of one rank; may be iterated again.

    Args:
        rows: the held-out rows.
        count: how many of them, from the first.
        bos: id to fill up short rows with; their targets are masked, so it does not matter which.
        rank: which of the processes this is.
        world_size: number of processes; each gets the same number of batches, filled up with masked ones.
    """

    def __init__(self, rows: HeldOutRows, count: int, bos: int, rank: int = 0, world_size: int = 1) -> None:
        self.rows, self.bos = rows, bos
        longest_first = sorted(range(count), key=lambda index: -int(rows.sizes[index]))
        batches: list[list[int]] = []
        for index in longest_first:
            if not batches or (len(batches[-1]) + 1) * int(rows.sizes[batches[-1][0]]) > VAL_BATCH_TOKENS:
                batches.append([])
            batches[-1].append(index)
        batches += [[] for _ in range(-len(batches) % world_size)]
        self.batches = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        for indices in self.batches:
            rows = [torch.from_numpy(self.rows.row(index)) for index in indices]
            time = max((len(row) - 1 for row in rows), default=1)
            ids = torch.full((max(len(rows), 1), time), self.bos)
            targets = torch.full_like(ids, IGNORE)
            for i, row in enumerate(rows):
                ids[i, : len(row) - 1] = row[:-1]
                targets[i, : len(row) - 1] = row[1:]
            yield ids, targets


class TextDataModule(LightningDataModule):
    """Documents packed into rows without padding, in an order that depends on the seed alone.

    Args:
        corpus: "embedded" (the documentation that came with Python and its packages, so that nothing need be
            downloaded) or the path of your own text: a file, or a folder of .txt, .md, .py, .jsonl and .parquet files.
        val_corpus: path of held-out text of your own; null holds out a part of the corpus.
        vocab_size: number of tokens in the vocabulary, the nine special ones included; at least 265.
        context: tokens in a row, and the longest text that the model can take in.
        row_length: tokens in a row to train on, at most the context: in shorter rows attention costs less, so more of
            them fit into the same time. null takes the context.
        batch_size: rows per device and micro-step. Lower it when memory runs out; the result stays the same.
        tokens_per_step: tokens that one step of the optimizer learns from, over all devices; gradients are
            accumulated over as many micro-steps as that takes. null takes one micro-step.
        val_tokens: tokens of the held-out part that are scored each time during a run; `validate` scores all of it.
        validations: how many times during a run, unless trainer.val_check_interval says it.
        validate_all: whether to score all of the held-out part at the end of the run.
        num_workers: processes that prepare batches; 0 prepares them in the training process, which costs next to
            nothing because the tokens lie ready in a file.
        seed: of the order of documents; null takes the run's seed.

    Raises:
        ValueError: if a number is out of range, or the corpus is missing, unreadable or too small.
    """

    def __init__(
        self,
        corpus: str = "embedded",
        val_corpus: str | None = None,
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
        ):
            if value < least:
                raise ValueError(f"--data.{name} must be at least {least}, not {value}")
        self.save_hyperparameters()
        self.source, self.val_source = corpus, val_corpus
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
        self._start_tokens = self._start_step = 0  # where in the stream, and at which step, this run began or resumed

    # ------------------------------------------------------------------------------------------ preparation

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Takes this tokenizer, a checkpoint's, instead of training one on the corpus."""
        if tokenizer.vocab_size != self.vocab_size:
            raise ValueError(
                f"the checkpoint's vocabulary has {tokenizer.vocab_size:,} tokens: set --data.vocab_size to it"
            )
        self._tokenizer = tokenizer

    def prepare_data(self) -> None:
        """Scans, trains the tokenizer and tokenizes, on one process of each machine; all of it is then cached."""
        prepare(self.source, self.vocab_size, self.val_source, self._tokenizer)

    def setup(self, stage: str) -> None:
        """Opens what :meth:`prepare_data` made, and says how many micro-steps make a step."""
        self._prepared = prepare(self.source, self.vocab_size, self.val_source, self._tokenizer)
        self.held_out = HeldOutRows(self.prepared.val, min(VAL_ROW, self.context))
        self._check_sizes()
        if stage == "fit" and self.trainer is not None:
            if self.trainer.accumulate_grad_batches == 1:  # not chosen by the user
                self.trainer.accumulate_grad_batches = self.micro_steps(self.trainer.world_size)
            if self.trainer.val_check_interval == 1.0 and self.trainer.max_steps > 0:
                steps = max(1, self.trainer.max_steps // self.validations)
                self.trainer.val_check_interval = steps * self.trainer.accumulate_grad_batches  # it counts micro-steps
                self.trainer.check_val_every_n_epoch = None  # the stream has no end, so there are no epochs

    @property
    def prepared(self) -> Prepared:
        """The corpus and the tokenizer; there after ``setup``."""
        assert self._prepared is not None, "setup() comes first"
        return self._prepared

    @property
    def tokenizer(self) -> Tokenizer:
        return self.prepared.tokenizer

    def _check_sizes(self) -> None:
        held_out, train = self.held_out.predictions, len(self.prepared.train.tokens)
        if held_out < self.held_out.length:
            raise ValueError(
                f"the corpus is too small: its held-out part has {held_out:,} tokens, less than one row of "
                f"{self.held_out.length}; add text, or give held-out text with --data.val_corpus"
            )
        if train <= self.row_length:
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

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the tokenizer, and the place in the stream."""
        return {
            "tokenizer": self.tokenizer.to_dict(),
            "corpus": self.prepared.fingerprint,
            "seed": self.seed,
            "place": self._place(),
            "step": self.trainer.global_step if self.trainer is not None else 0,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where the checkpoint stood, if it is the same corpus."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        if state_dict["corpus"] != self.prepared.fingerprint:
            rank_zero_warn(
                f"The checkpoint was trained on another corpus ({state_dict['corpus']}, this one is "
                f"{self.prepared.fingerprint}): its order starts afresh."
            )
        else:
            self.seed = state_dict["seed"]
            self._start_tokens = state_dict["place"]
        self._start_step = state_dict["step"]

    # -------------------------------------------------------------------------------------------- the loaders

    def train_dataloader(self) -> DataLoader[Batch]:
        rank, world_size, cuda = self._devices()
        return DataLoader(
            TrainingBatches(
                self.prepared.train,
                self.seed,
                self._place() if self.trainer is not None else 0,
                self.batch_size,
                self.row_length,
                rank,
                world_size,
            ),
            batch_size=None,  # the dataset yields whole batches
            num_workers=self.num_workers,
            pin_memory=cuda,
            worker_init_fn=_ignore_interrupt,
        )

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


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; only the main one is to answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
