"""The LightningDataModule of fine-tuning: a mixture of tasks as endless rows of conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanochat.cache import short_hash
from nanochat.data.conversations.chat_rows import ConversationBatches, ConversationStream, HeldOutConversations, Origin
from nanochat.data.conversations.mixture import Mixture, describe, first_items
from nanochat.data.conversations.task_sources import open_tasks
from nanochat.data.data_module import VAL_ROW, RowsDataModule
from nanochat.data.rank import rank_of
from nanochat.data.tokens.batches import TrainingLoader, new_data_loader
from nanochat.tasks.task import Task
from nanochat.tokenizer import Tokenizer, render_prompt

HELD_OUT_ITEMS = 1000  # of all tasks together
DEFAULT_TASKS = {"functions": 20.0, "documentation": 3.0, "arithmetic": 27.0, "spelling": 45.0, "identity": 5.0}


class ChatDataModule(RowsDataModule):
    """Conversations, packed whole into rows. Only what the assistant says is a target.

    Args:
        tasks: the tasks, each with its weight, which is its share of the conversations: functions, documentation,
            arithmetic, spelling and identity are generated on this machine; smoltalk, mmlu, arc-easy, arc-challenge and
            gsm8k come from the Hugging Face hub; the path of a .jsonl file with
            {"messages": [{"role": ..., "content": ...}, ...]} on each line is your own. null takes those that need no
            download.
        several_turns: share of the short conversations that are appended to the one before, as its next turn.
        vocab_size: number of tokens in the vocabulary: the checkpoint's.
        context: longest sequence that the model can read, in tokens: the checkpoint's.
        row_length: tokens in a training row, at most the context; longer conversations are cut. null takes the context.
        batch_size: rows per device and micro-step. Lower it when memory runs out; the result stays the same.
        tokens_per_step: tokens per optimizer step, over all devices. Gradients are accumulated over as many micro-steps
            as needed. null takes one micro-step.
        val_tokens: tokens of held-out conversations that each validation during a run scores; `validate` scores all.
        validations: number of validations during a run, unless trainer.val_check_interval is set; fewer where they
            would take more than 4 % of --plan.minutes.
        validate_all: whether to score all held-out conversations at the end of the run.
        num_workers: processes that prepare batches; 0 prepares them in the training process.
        seed: seed of the order of conversations; null takes the run's seed.

    Raises:
        ValueError: if a number is out of range, or a task is unknown or unavailable.
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
        self._origin: Origin | None = None  # the round at the position of the checkpoint
        self._stream: ConversationStream | None = None
        self._target_share: float | None = None
        self._prepared: tuple[Mixture, str] | None = None  # the mixture and its fingerprint

    # ------------------------------------------------------------------------------------------- the data

    @property
    def mixture(self) -> Mixture:
        """The tasks with their shares. Available after ``setup``."""
        assert self._prepared is not None, "call setup() first"
        return self._prepared[0]

    @property
    def tokenizer(self) -> Tokenizer:
        assert self._tokenizer is not None, "call use_tokenizer() first: conversations need the model's tokenizer"
        return self._tokenizer

    @property
    def source(self) -> str:
        return "conversations"

    @property
    def extent(self) -> str:
        return describe(self.mixture.shares)

    @property
    def fingerprint(self) -> str:
        assert self._prepared is not None, "call setup() first"
        return self._prepared[1]

    @property
    def target_share(self) -> float:
        if self._target_share is None:
            # of the stream's first round, also in a resumed run, so that tokens weigh the same in all steps
            beginning = ConversationStream(self.mixture, self.tokenizer, self.row_length, self.seed)
            self._target_share = beginning.target_share()
        return self._target_share

    def prompt(self, text: str) -> list[int]:
        return render_prompt(self.tokenizer, [{"role": "user", "content": text}])

    @property
    def stop_ids(self) -> Sequence[int]:
        return [self.tokenizer.special_tokens["<|assistant_end|>"], self.tokenizer.bos]

    # ------------------------------------------------------------------------------------------- Lightning's hooks

    def prepare_data(self) -> None:
        """Fetches missing data sets, on one process per machine."""
        self._open_tasks()

    def _open_tasks(self) -> list[Task]:
        return open_tasks(list(self.weights))

    def _open_data(self) -> None:
        tasks = self._open_tasks()
        mixture = Mixture(dict(zip(tasks, self.weights.values(), strict=True)), self.several_turns)
        held_out = [item for _, item in mixture.held_out(HELD_OUT_ITEMS)]
        facts = [list(self.weights.items()), self.several_turns, first_items(list(mixture.shares)), held_out]
        self._prepared = mixture, short_hash(facts)
        self.held_out = HeldOutConversations(held_out, self.tokenizer, min(VAL_ROW, self.context))
        if not len(self.held_out):
            raise ValueError("no conversation is held out: add conversations, or another task")

    def train_dataloader(self) -> TrainingLoader:
        rank, start = rank_of(self.trainer), self._next_position()
        self._stream = ConversationStream(self.mixture, self.tokenizer, self.row_length, self.seed, self._origin)
        batches = ConversationBatches(self._stream, start, self.batch_size, rank.number, rank.world_size)
        self._loader = TrainingLoader(new_data_loader(batches, self.num_workers, pin_memory=rank.is_cuda))
        return self._loader

    # ------------------------------------------------------------------------------------------- position

    def _stream_state(self) -> dict[str, Any]:
        position, origin = self._next_position(), None
        if self._stream is not None and self.num_workers == 0:  # workers have streams of their own
            origin = list(self._stream.origin(max(self._position.start, position - 1)))
        return {"row": position, "origin": origin}

    def _load_stream_state(self, state: dict[str, Any]) -> None:
        self._position.start = state["row"]
        self._origin = Origin(*state["origin"]) if state["origin"] is not None else None
