"""The LightningDataModule of pretraining: a corpus as endless rows to train on, and held-out rows to score."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nanochat.data.data_module import VAL_ROW, RowsDataModule
from nanochat.data.tokens.batches import TrainingBatches, TrainingLoader
from nanochat.data.tokens.held_out_rows import HeldOutRows
from nanochat.data.tokens.prefetch import Prefetcher
from nanochat.data.tokens.prepare import CorpusOptions, Prepared, prepare
from nanochat.data.tokens.shards import StreamedShards, TokenShards
from nanochat.data.tokens.token_stream import Segment, TokenStream
from nanochat.options import at_least
from nanochat.tokenizer import Tokenizer

log = logging.getLogger(__name__)


class TextDataModule(RowsDataModule):
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
        sizes = (vocab_size, context, row_length, batch_size, tokens_per_step)
        super().__init__(*sizes, val_tokens, validations, validate_all, num_workers, seed)
        at_least(1, "data.", max_shards=max_shards)
        self.save_hyperparameters()
        self.sources = CorpusOptions(corpus, val_corpus, column, split, max_shards)
        self._prepared: Prepared | None = None
        self._start_tokens = 0  # where in the stream this run began or resumed
        self._origin: Segment | None = None  # a segment of the stream that an earlier process has seen
        self._stream: TokenStream | None = None
        self._ahead: Prefetcher | None = None

    # ------------------------------------------------------------------------------------------ preparation

    def _prepare(self) -> Prepared:
        fitting = self.trainer is None or self.trainer.state.fn == "fit"
        return prepare(self.sources, self.vocab_size, self._tokenizer, train=fitting)

    def prepare_data(self) -> None:
        """Scans, trains the tokenizer and tokenizes, on one process of each machine; all of it is then cached."""
        shards = self._prepare().train
        if isinstance(shards, StreamedShards):
            shards.forget_errors()
            TokenStream(shards, self.seed).locate(0)  # what is wrong with the corpus is found out before the start

    def _prepare_rows(self) -> None:
        self._prepared = self._prepare()
        self.held_out = HeldOutRows(self.prepared.val, min(VAL_ROW, self.context))
        self._check_sizes()

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
    def shards(self) -> TokenShards:
        """What is trained on; there after ``setup`` to train."""
        assert self.prepared.train is not None, "this was set up to score"
        return self.prepared.train

    @property
    def tokenizer(self) -> Tokenizer:
        return self.prepared.tokenizer

    @property
    def source(self) -> str:
        return self.sources.corpus

    @property
    def extent(self) -> str:
        return self.prepared.extent

    @property
    def fingerprint(self) -> str:
        return self.prepared.fingerprint

    @property
    def all_tokens(self) -> int | None:
        return self.shards.tokens

    def prompt(self, text: str) -> list[int]:
        return [self.tokenizer.bos, *self.tokenizer.encode(text)]

    @property
    def stop_ids(self) -> Sequence[int]:
        return [self.tokenizer.bos]  # a document ends where the next begins

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

    # ------------------------------------------------------------------------------------- place in the stream

    def _place(self) -> int:
        """Where in the stream the next step begins, in tokens, after as many steps as the trainer has done."""
        return self._start_tokens + self._rows_since_start() * (self.row_length + 1)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the tokenizer, and the place in the stream."""
        return {**super().state_dict(), "place": self._place(), "origin": self._last_segment()}

    def _go_on(self, state_dict: dict[str, Any]) -> None:
        """Goes on where the checkpoint stood, if it is the same corpus."""
        assert self.trainer is not None
        if state_dict["corpus"] != self.fingerprint:
            if self.trainer.is_global_zero:
                log.warning(
                    "The checkpoint was trained on another corpus (%s, this one is %s): it is read from its beginning.",
                    state_dict["corpus"],
                    self.fingerprint,
                )
            return
        self.seed = state_dict["seed"]
        self._start_tokens = state_dict["place"]
        if (origin := state_dict.get("origin")) is not None:
            self._origin = Segment(origin[0], (origin[1][0], origin[1][1]), origin[2], origin[3])
            shards = self.prepared.train.corpus.shards if isinstance(self.prepared.train, StreamedShards) else ()
            if shards and self._origin.shard[0] >= len(shards):
                raise ValueError(
                    f"the checkpoint stands in file {self._origin.shard[0] + 1} of the corpus, but only "
                    f"{len(shards)} are to be used: raise --data.max_shards"
                )

    def _last_segment(self) -> list[Any] | None:
        """Where the stream has been read last, in plain numbers."""
        if self._stream is None:
            return None
        segment = self._stream.locate(max(self._start_tokens, self._place() - 1))
        return [segment.epoch, list(segment.shard), segment.start, segment.end]

    # -------------------------------------------------------------------------------------------- the loaders

    def train_dataloader(self) -> TrainingLoader:
        rank, world_size, cuda = self._devices()
        start = self._place() if self.trainer is not None else 0
        shards = self.shards
        if isinstance(shards, StreamedShards):
            shards = self._read_ahead(shards, world_size)
        batches = TrainingBatches(
            shards, self.seed, start, self.batch_size, self.row_length, rank, world_size, self._origin
        )
        self._stream = TokenStream(shards, self.seed, self._origin)

        def on_batch(count: int) -> None:
            """Tells those who read ahead where the last batch was."""
            if self._ahead is not None:
                assert self._stream is not None
                read = max(0, count - 1) * world_size * batches.size
                segment = self._stream.locate(start + read) if count else self._first_segment
                self._ahead.reading(segment.epoch, segment.shard, self._tokens_left(segment))

        self._loader = TrainingLoader(self._data_loader(batches, cuda), on_batch)
        return self._loader

    def _read_ahead(self, shards: StreamedShards, world_size: int) -> StreamedShards:
        """Starts the processes that make the shards, on one rank of each machine; returns shards that wait for them."""
        self._first_segment = self._origin or TokenStream(shards, self.seed).locate(0)
        if self.trainer is None or self.trainer.local_rank == 0:
            in_flight = (2 * self.num_workers + 2) * world_size  # batches, of all ranks
            window = in_flight * self.batch_size * (self.row_length + 1)
            self._ahead = Prefetcher(shards, self.seed, max(1, self.num_workers), window)
        return replace(shards, when_missing="wait")

    def _tokens_left(self, segment: Segment) -> float:
        """Tokens that the run still needs, from the beginning of a segment on."""
        if self.trainer is None or self.trainer.max_steps < 0:
            return math.inf
        steps = self.trainer.max_steps - self._start_step
        rows = self.trainer.accumulate_grad_batches * self.trainer.world_size * self.batch_size
        return self._start_tokens + steps * rows * (self.row_length + 1) - segment.start
