"""The LightningDataModule of pretraining: a corpus as endless rows to train on, and held-out rows to score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nanochat.data.data_module import VAL_ROW, RowsDataModule
from nanochat.data.rank import Rank, rank_of
from nanochat.data.tokens.batches import TrainingBatches, TrainingLoader, new_data_loader
from nanochat.data.tokens.held_out_rows import HeldOutRows
from nanochat.data.tokens.prefetch import Prefetcher, PrefetchProgress
from nanochat.data.tokens.prepare import CorpusOptions, Prepared, check_sizes, prepare
from nanochat.data.tokens.shards import StreamedShards, TokenShards
from nanochat.data.tokens.token_stream import Segment, TokenStream
from nanochat.options import at_least
from nanochat.tokenizer import Tokenizer


class TextDataModule(RowsDataModule):
    """Documents packed into rows without padding, in an order that depends only on the seed.

    Args:
        corpus: "embedded" (the documentation installed with Python and its packages; needs no download); the path of
            your own text: a file, or a folder of .txt, .md, .py, .jsonl and .parquet files; or a corpus on the Hugging
            Face hub: climbmix, fineweb-edu, tinystories, or hf://owner/name (also hf://owner/name@revision/folder).
        val_corpus: held-out text of your own, given like the corpus; null holds out a part of the corpus.
        column: the column of .parquet files, or the field of .jsonl records, that holds the text.
        split: of a corpus on the hub: the split to train on.
        max_shards: of a corpus on the hub: the number of its files to use, from the first, which bounds the disk space
            (climbmix: about 0.2 GB per file). null uses all. Each file is fetched shortly before it is needed.
        vocab_size: number of tokens in the vocabulary, including the nine special ones; at least 265.
        context: longest sequence that the model can read, in tokens.
        row_length: tokens in a training row, at most the context. Attention costs less in shorter rows, so more of them
            fit into the same time. null takes the context.
        batch_size: rows per device and micro-step. Lower it when memory runs out; the result stays the same.
        tokens_per_step: tokens per optimizer step, over all devices. Gradients are accumulated over as many micro-steps
            as needed. null takes one micro-step.
        val_tokens: held-out tokens that each validation during a run scores; `validate` scores all of them.
        validations: number of validations during a run, unless trainer.val_check_interval is set; fewer where they
            would take more than 4 % of --plan.minutes.
        validate_all: whether to score all held-out text at the end of the run.
        num_workers: processes that prepare batches. 0 prepares them in the training process, which costs almost
            nothing, because the text is already tokenized. A corpus of more than 128 MB is tokenized during training,
            by this number of processes (at least one).
        seed: seed of the order of documents; null takes the run's seed.

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
        self.options = CorpusOptions(corpus, val_corpus, column, split, max_shards)
        self._prepared: Prepared | None = None
        self._origin: Segment | None = None  # the segment at the position of the checkpoint
        self._stream: TokenStream | None = None
        self._prefetcher: Prefetcher | None = None

    # ------------------------------------------------------------------------------------------- the data

    @property
    def prepared(self) -> Prepared:
        """The corpus, its tokenizer and its token files. Available after ``setup``."""
        assert self._prepared is not None, "call setup() first"
        return self._prepared

    @property
    def shards(self) -> TokenShards:
        """The tokens to train on. Available after ``setup("fit")``."""
        assert self.prepared.train is not None, "this was set up for scoring only"
        return self.prepared.train

    @property
    def tokenizer(self) -> Tokenizer:
        return self.prepared.tokenizer

    @property
    def source(self) -> str:
        return self.options.corpus

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
        return [self.tokenizer.bos]  # a document ends where the next one begins

    # ------------------------------------------------------------------------------------------- Lightning's hooks

    def prepare_data(self) -> None:
        """Scans the corpus, trains the tokenizer and tokenizes, on one process per machine; all of it is cached."""
        shards = self._prepare().train
        if isinstance(shards, StreamedShards):
            shards.clear_errors()
            TokenStream(shards, self.seed).segment_at(0)  # raises now if the corpus cannot be read

    def _prepare(self) -> Prepared:
        fitting = self.trainer is None or self.trainer.state.fn == "fit"
        return prepare(self.options, self.vocab_size, self._tokenizer, train=fitting)

    def _open_data(self) -> None:
        self._prepared = self._prepare()
        self.held_out = HeldOutRows(self.prepared.val, min(VAL_ROW, self.context))
        check_sizes(self.held_out, self.prepared.train, self.row_length)

    def train_dataloader(self) -> TrainingLoader:
        rank, shards, start = rank_of(self.trainer), self.shards, self._next_position()
        if isinstance(shards, StreamedShards):
            shards = replace(shards, when_missing="wait")
        self._stream = TokenStream(shards, self.seed, self._origin)
        batches = TrainingBatches(
            shards, self.seed, start, self.batch_size, self.row_length, rank.number, rank.world_size, self._origin
        )
        progress = self._prefetch(start, batches.size * rank.world_size, self._stream, rank)
        loader = new_data_loader(batches, self.num_workers, pin_memory=rank.is_cuda)
        self._loader = TrainingLoader(loader, progress)
        return self._loader

    def teardown(self, stage: str) -> None:
        """Ends the processes that prefetch text."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("fit")

    # ------------------------------------------------------------------------------------------- prefetching

    def _prefetch(self, start: int, tokens_per_batch: int, stream: TokenStream, rank: Rank) -> PrefetchProgress | None:
        """Starts the processes that make the shards of a large corpus, on one rank of each machine."""
        if not isinstance(self.shards, StreamedShards) or (self.trainer is not None and self.trainer.local_rank != 0):
            return None
        first = self._origin or TokenStream(self.shards, self.seed).segment_at(0)
        in_flight = 2 * self.num_workers + 2  # batches that each rank has prepared or is preparing
        window = in_flight * tokens_per_batch
        self._prefetcher = Prefetcher(self.shards, self.seed, max(1, self.num_workers), window)
        return PrefetchProgress(self._prefetcher, stream, first, start, tokens_per_batch, self._last_position)

    def _last_position(self) -> float:
        """Position in the stream at the end of the run, as far as it is known by now."""
        if self.trainer is None or self.trainer.max_steps < 0:
            return math.inf
        return self._position.after(self.trainer.max_steps, self._units_per_step)

    # ------------------------------------------------------------------------------------------- position

    @property
    def _units_per_step(self) -> int:
        return super()._units_per_step * (self.row_length + 1)  # a row takes one token more than it has predictions

    def _stream_state(self) -> dict[str, Any]:
        position, origin = self._next_position(), None
        if self._stream is not None:
            origin = self._stream.segment_at(max(self._position.start, position - 1)).to_state()
        return {"place": position, "origin": origin}

    def _load_stream_state(self, state: dict[str, Any]) -> None:
        self._position.start = state["place"]
        if (origin := state.get("origin")) is not None:
            self._origin = Segment.from_state(origin)
            shards = self.prepared.train.corpus.shards if isinstance(self.prepared.train, StreamedShards) else ()
            if shards and self._origin.shard[0] >= len(shards):
                raise ValueError(
                    f"the checkpoint stands in file {self._origin.shard[0] + 1} of the corpus, but --data.max_shards "
                    f"allows only {len(shards)}: raise it"
                )
