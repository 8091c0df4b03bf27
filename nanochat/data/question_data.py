"""The LightningDataModule of reinforcement learning: questions whose answers can be checked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from nanochat.data.chat_data import ChatDataModule
from nanochat.data.conversations.exam_questions import SOURCES, local_task
from nanochat.data.conversations.question_order import MicroStep, QuestionOrder, QuestionSteps
from nanochat.data.conversations.task_sources import HUB, JSONL, open_tasks
from nanochat.data.rank import rank_of
from nanochat.data.step_size import accumulate
from nanochat.options import at_least
from nanochat.tasks.task import Task
from nanochat.tokenizer import render_prompt

DEFAULT_TASKS = {"arithmetic": 40.0, "spelling": 40.0, "functions": 20.0}
LENGTH_SAMPLE = 256  # training questions by which the longest one is estimated


class QuestionsDataModule(ChatDataModule):
    """Questions whose answers can be checked. The model learns from its own answers to them.

    Args:
        tasks: the tasks, each with its weight, which is its share of the questions: arithmetic, spelling, functions,
            documentation and identity are generated on this machine; gsm8k, mmlu, arc-easy and arc-challenge come from
            the Hugging Face hub or from a folder. null takes arithmetic, spelling and functions.
        folder: folder with files of the tasks from the hub, such as gsm8k/train.jsonl and gsm8k/test.jsonl; null
            downloads them.
        questions_per_step: questions per optimizer step, over all devices.
        samples: answers to each question, which are compared with each other.
        max_tokens: longest answer in tokens; one that has not ended by then is wrong.
        vocab_size: number of tokens in the vocabulary: the checkpoint's.
        context: longest sequence that the model can read, in tokens: the checkpoint's.
        batch_size: answers per device and micro-step, both in generating them and in training on them. Lower it when
            memory runs out; the result stays the same.
        val_questions: held-out questions in each validation during a run.
        val_tokens: tokens of held-out conversations by which each validation also measures val/bpb.
        validations: number of validations during a run, unless trainer.val_check_interval is set; fewer where they
            would take more than 4 % of --plan.minutes.
        validate_all: whether to measure val/bpb on all held-out conversations at the end of the run.
        seed: seed of the order of questions and of the answers; null takes the run's seed.

    Raises:
        ValueError: if a number is out of range, or a task is unknown, unavailable, or cannot be checked.
    """

    def __init__(
        self,
        tasks: dict[str, float] | None = None,
        folder: str | None = None,
        questions_per_step: int = 32,
        samples: int = 8,
        max_tokens: int = 64,
        vocab_size: int = 512,
        context: int = 512,
        batch_size: int = 64,
        val_questions: int = 200,
        val_tokens: int = 8192,
        validations: int = 8,
        validate_all: bool = True,
        seed: int | None = None,
    ) -> None:
        at_least(1, "data.", questions_per_step=questions_per_step, max_tokens=max_tokens, val_questions=val_questions)
        at_least(2, "data.", samples=samples)
        self.questions_per_step, self.samples, self.max_tokens = questions_per_step, samples, max_tokens
        self.folder = Path(folder) if folder is not None else None
        self.val_questions = val_questions
        tasks = tasks or DEFAULT_TASKS
        super().__init__(
            tasks,
            several_turns=0.0,
            vocab_size=vocab_size,
            context=context,
            batch_size=batch_size,
            val_tokens=val_tokens,
            validations=validations,
            validate_all=validate_all,
            seed=seed,
        )
        for name in self.weights:
            if name.endswith(JSONL) or (name in HUB and HUB[name].check is None):
                raise ValueError(_cannot_check(name))
        self._tokens = 0  # generated since this run started or resumed

    # ------------------------------------------------------------------------------------------- the data

    @property
    def order(self) -> QuestionOrder:
        """The questions to learn from. Available after ``setup``."""
        return QuestionOrder(self.mixture, self.seed)

    @property
    def source(self) -> str:
        return "questions"

    @property
    def target_share(self) -> float:
        return 1.0

    def _open_tasks(self) -> list[Task]:
        tasks = [self._open_task(name) for name in self.weights]
        for task in tasks:
            if not task.scored:
                raise ValueError(_cannot_check(task.name))
        return tasks

    def _open_task(self, name: str) -> Task:
        if self.folder is None or name not in SOURCES:
            return open_tasks([name])[0]
        try:
            return local_task(name, self.folder)
        except ValueError as error:
            raise ValueError(str(error).replace("--data=", "--data.folder=")) from error

    # ------------------------------------------------------------------------------------------- Lightning's hooks

    def _open_data(self) -> None:
        super()._open_data()
        self.val_items = self.mixture.held_out(self.val_questions)
        order = self.order
        items = [item for _, item in self.val_items] + [order.question(index).item for index in range(LENGTH_SAMPLE)]
        longest = max(len(render_prompt(self.tokenizer, item.question)) for item in items)
        self.row_length = min(self.context, longest + self.max_tokens)  # for estimates of memory and FLOPs

    def train_dataloader(self) -> QuestionSteps:  # type: ignore[override]  # questions need no waiting
        rank = rank_of(self.trainer)
        micro_steps = self.trainer.accumulate_grad_batches if self.trainer is not None else self.micro_steps()
        position = (self._next_position(), self.questions_per_step, micro_steps)
        return QuestionSteps(self.order, *position, rank.number, rank.world_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves held-out rows to the device; questions stay on the CPU."""
        return (
            batch if isinstance(batch, MicroStep) else super().transfer_batch_to_device(batch, device, dataloader_idx)
        )

    # ------------------------------------------------------------------------------------------- steps and position

    def tokens_per_step(self, world_size: int = 1) -> int:
        """Tokens that the model generates for one step, at most."""
        return self.questions_per_step * self.samples * self.max_tokens

    def step_size_option(self, tokens: int) -> str:
        return "the earlier --data.questions_per_step, --data.samples and --data.max_tokens"

    def micro_steps(self, world_size: int = 1) -> int:
        """Micro-steps that make one optimizer step.

        Raises:
            ValueError: if the questions do not divide evenly among the devices.
        """
        if self.questions_per_step % world_size:
            even = max(1, round(self.questions_per_step / world_size)) * world_size
            raise ValueError(
                f"{self.questions_per_step} questions cannot be dealt out evenly to {world_size} devices: "
                f"set --data.questions_per_step={even}"
            )
        return math.ceil(self.questions_per_step // world_size * self.samples / self.batch_size)

    def take_fewer_rows(self, rows: int) -> None:
        assert self.trainer is not None
        self.batch_size = rows
        accumulate(self.trainer, self.micro_steps(self.trainer.world_size))

    def count_tokens(self, tokens: int) -> None:
        """Adds generated tokens, of all devices, to those of this run."""
        self._tokens += tokens

    def tokens_seen(self, step: int) -> int:
        """Tokens generated and trained on so far. Unlike in other stages, it does not follow from the step."""
        return self._position.start_tokens + self._tokens

    @property
    def _units_per_step(self) -> int:
        return self.questions_per_step

    def _stream_state(self) -> dict[str, Any]:
        return {"question": self._next_position()}

    def _load_stream_state(self, state: dict[str, Any]) -> None:
        self._position.start = state["question"]


def _cannot_check(name: str) -> str:
    return (
        f"--data.tasks: answers to {name} cannot be checked, so the model cannot learn from them: use tasks such as "
        "arithmetic, spelling or gsm8k"
    )
