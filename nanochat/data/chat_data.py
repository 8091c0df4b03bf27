"""The LightningDataModule of fine-tuning: a mixture of tasks as endless rows of conversations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from nanochat.cache import short_hash
from nanochat.data.conversations.chat_rows import ConversationBatches, ConversationStream, HeldOutConversations, Origin
from nanochat.data.conversations.mixture import Mixture, describe, first_items
from nanochat.data.conversations.task_sources import open_tasks
from nanochat.data.data_module import VAL_ROW, RowsDataModule
from nanochat.data.tokens.batches import TrainingLoader
from nanochat.tasks.task import Task
from nanochat.tokenizer import Tokenizer, render_prompt

log = logging.getLogger(__name__)

HELD_OUT_ITEMS = 1000  # of all tasks together
DEFAULT_TASKS = {"functions": 20.0, "documentation": 3.0, "arithmetic": 27.0, "spelling": 45.0, "identity": 5.0}


class ChatDataModule(RowsDataModule):
    """Conversations, packed whole into rows; what the assistant says in them is learned, and nothing else.

    Args:
        tasks: what the conversations are about, each with its weight, which is its share of the conversations:
            functions, documentation, arithmetic, spelling and identity are made on this machine; smoltalk, mmlu,
            arc-easy, arc-challenge and gsm8k come from the Hugging Face hub; the path of a .jsonl file with
            {"messages": [{"role": ..., "content": ...}, ...]} on each line is your own. null takes those that need no
            download.
        several_turns: the share of short conversations that go on with another one, as its next turn.
        vocab_size: number of tokens in the vocabulary: the checkpoint's.
        context: tokens in a row, and the longest text that the model can take in: the checkpoint's.
        row_length: tokens in a row to train on, at most the context; a conversation that is longer is cut. null takes
            the context.
        batch_size: rows per device and micro-step. Lower it when memory runs out; the result stays the same.
        tokens_per_step: tokens that one step of the optimizer learns from, over all devices; gradients are
            accumulated over as many micro-steps as that takes. null takes one micro-step.
        val_tokens: tokens of the held-out conversations that are scored each time during a run; `validate` scores all.
        validations: how many times during a run, unless trainer.val_check_interval says it; fewer where they would take
            more than 4 % of --plan.minutes.
        validate_all: whether to score all of the held-out conversations at the end of the run.
        num_workers: processes that prepare batches; 0 prepares them in the training process, 1 beside it.
        seed: of the order of conversations; null takes the run's seed.

    Raises:
        ValueError: if a number is out of range, or a task is not known or cannot be had.
    """

    def __init__(
        self,
        tasks: dict[str, float] | None = None,
        several_turns: float = 0.2,
        vocab_size: int = 512,
        context: int = 512,
        row_length: int | None = None,
        batch_size: int = 4,
        tokens_per_step: int | None = None,
        val_tokens: int = 8192,
        validations: int = 4,
        validate_all: bool = True,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        sizes = (vocab_size, context, row_length, batch_size, tokens_per_step)
        super().__init__(*sizes, val_tokens, validations, validate_all, num_workers, seed)
        self.save_hyperparameters()
        self.weights = {name: weight for name, weight in (tasks or DEFAULT_TASKS).items() if weight}
        self.several_turns = several_turns
        self._start_row = 0  # of the stream, where this run began or resumed
        self._origin: Origin | None = None
        self._stream: ConversationStream | None = None
        self._target_share: float | None = None
        self._prepared: tuple[Mixture, str] | None = None  # the mixture and its fingerprint

    # ------------------------------------------------------------------------------------------ preparation

    def prepare_data(self) -> None:
        """Fetches what is not here, on one process of each machine."""
        self._open_tasks()

    def _open_tasks(self) -> list[Task]:
        return open_tasks(list(self.weights))

    def _prepare_rows(self) -> None:
        tasks = self._open_tasks()
        mixture = Mixture(dict(zip(tasks, self.weights.values(), strict=True)), self.several_turns)
        held_out = [item for _, item in mixture.held_out(HELD_OUT_ITEMS)]
        facts = [list(self.weights.items()), self.several_turns, first_items(list(mixture.shares)), held_out]
        fingerprint = short_hash(facts)
        self._prepared = mixture, fingerprint
        self.held_out = HeldOutConversations(held_out, self.tokenizer, min(VAL_ROW, self.context))
        if not len(self.held_out):
            raise ValueError("no conversation is held out: add more of them, or another task")

    @property
    def mixture(self) -> Mixture:
        """The tasks; there after ``setup``."""
        assert self._prepared is not None, "setup() comes first"
        return self._prepared[0]

    @property
    def tokenizer(self) -> Tokenizer:
        assert self._tokenizer is not None, "use_tokenizer() comes first: a conversation is written in a model's tokens"
        return self._tokenizer

    @property
    def source(self) -> str:
        return "conversations"

    @property
    def extent(self) -> str:
        return describe(self.mixture.shares)

    @property
    def fingerprint(self) -> str:
        assert self._prepared is not None, "setup() comes first"
        return self._prepared[1]

    @property
    def target_share(self) -> float:
        if self._target_share is None:
            # of the stream's beginning, also where a run goes on: all of its steps are to weigh a token alike
            beginning = ConversationStream(self.mixture, self.tokenizer, self.row_length, self.seed)
            self._target_share = beginning.target_share()
        return self._target_share

    def prompt(self, text: str) -> list[int]:
        return render_prompt(self.tokenizer, [{"role": "user", "content": text}])

    @property
    def stop_ids(self) -> Sequence[int]:
        return [self.tokenizer.special_tokens["<|assistant_end|>"], self.tokenizer.bos]

    # ------------------------------------------------------------------------------------- place in the stream

    def _row(self) -> int:
        """Number of the row that the next step begins with."""
        return self._start_row + self._rows_since_start()

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: the tokenizer, and the place in the stream."""
        return {**super().state_dict(), **self._place()}

    def _place(self) -> dict[str, Any]:
        origin = None
        if self._stream is not None and self.num_workers == 0:  # the workers have streams of their own
            origin = list(self._stream.origin(max(self._start_row, self._row() - 1)))
        return {"row": self._row(), "origin": origin}

    def _go_on(self, state_dict: dict[str, Any]) -> None:
        """Goes on where the checkpoint stood, if they are the same conversations."""
        assert self.trainer is not None
        if state_dict["corpus"] != self.fingerprint:
            if self.trainer.is_global_zero:
                log.warning("The checkpoint was trained on other conversations: these are read from their beginning.")
            return
        self.seed = state_dict["seed"]
        self._take_place(state_dict)

    def _take_place(self, state_dict: dict[str, Any]) -> None:
        self._start_row = state_dict["row"]
        self._origin = Origin(*state_dict["origin"]) if state_dict["origin"] is not None else None

    # -------------------------------------------------------------------------------------------- the loaders

    def train_dataloader(self) -> TrainingLoader:
        rank, world_size, cuda = self._devices()
        start = self._row() if self.trainer is not None else 0
        self._stream = ConversationStream(self.mixture, self.tokenizer, self.row_length, self.seed, self._origin)
        batches = ConversationBatches(self._stream, start, self.batch_size, rank, world_size)
        self._loader = TrainingLoader(self._data_loader(batches, cuda), lambda count: None)
        return self._loader
