"""The LightningDataModule of reinforcement learning: questions whose answers can be checked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from nanochat.data.chat_data import ChatDataModule
from nanochat.data.conversations.exam_questions import SOURCES, local_task
from nanochat.data.conversations.question_order import Part, QuestionOrder, QuestionSteps
from nanochat.data.conversations.task_sources import HUB, JSONL, open_tasks
from nanochat.options import at_least
from nanochat.tasks.task import Task
from nanochat.tokenizer import render_prompt

DEFAULT_TASKS = {"arithmetic": 40.0, "spelling": 40.0, "functions": 20.0}
LOOKED_AT = 256  # questions by which the longest one is estimated


class QuestionsDataModule(ChatDataModule):
    """Questions whose answers can be checked. The model learns from its own answers to them.

    Args:
        tasks: what is asked about, each with its weight, which is its share of the questions: arithmetic, spelling,
            functions, documentation and identity are made on this machine; gsm8k, mmlu, arc-easy and arc-challenge
            come from the Hugging Face hub or from a folder. null takes arithmetic, spelling and functions.
        folder: with files of those from the hub, such as gsm8k/train.jsonl and gsm8k/test.jsonl; null fetches them.
        questions_per_step: questions that one step of the optimizer learns from, over all devices.
        samples: answers to each question, which are compared with each other.
        max_tokens: the longest answer; one that has not ended by then is wrong.
        vocab_size: number of tokens in the vocabulary: the checkpoint's.
        context: the longest text that the model can take in: the checkpoint's.
        batch_size: answers per device and micro-step, in writing them and in learning from them. Lower it when memory
            runs out; the result stays the same.
        val_questions: held-out questions that are asked each time during a run.
        val_tokens: tokens of the held-out conversations whose val/bpb is taken beside that.
        validations: how many times during a run, unless trainer.val_check_interval says it; fewer where they would take
            more than 4 % of --plan.minutes.
        validate_all: whether to take val/bpb of all of the held-out conversations at the end of the run.
        seed: of the order of questions and of the answers; null takes the run's seed.

    Raises:
        ValueError: if a number is out of range, or a task is not known, cannot be had or cannot be checked.
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
        self._start_question = 0  # of the order, where this run began or resumed
        self._tokens = 0  # that the model has written since then

    # ------------------------------------------------------------------------------------------ preparation

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

    def _prepare_rows(self) -> None:
        super()._prepare_rows()
        self.asked = self.mixture.held_out(self.val_questions)
        order = self.order
        learned = [order.question(index).item for index in range(LOOKED_AT)]
        prompts = [render_prompt(self.tokenizer, item.question) for item in (*(i for _, i in self.asked), *learned)]
        # what is reckoned with: of memory, and of operations
        self.row_length = min(self.context, max(map(len, prompts)) + self.max_tokens)

    @property
    def order(self) -> QuestionOrder:
        """The questions to learn from; there after ``setup``."""
        return QuestionOrder(self.mixture, self.seed)

    @property
    def source(self) -> str:
        return "questions"

    @property
    def target_share(self) -> float:
        return 1.0

    # ---------------------------------------------------------------------------------------- steps and place

    def tokens_per_step(self, world_size: int = 1) -> int:
        """Tokens that the model writes for one step, at most."""
        return self.questions_per_step * self.samples * self.max_tokens

    def step_size_option(self, tokens: int) -> str:
        return "what --data.questions_per_step, --data.samples and --data.max_tokens were before"

    def micro_steps(self, world_size: int = 1) -> int:
        """Micro-steps that make one step.

        Raises:
            ValueError: if the questions cannot be dealt out evenly.
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
        self._take_micro_steps(self.micro_steps(self.trainer.world_size))

    def count_tokens(self, tokens: int) -> None:
        """Takes note that the model has written so many more, on all devices."""
        self._tokens += tokens

    def tokens_seen(self, step: int) -> int:
        """Tokens that the model has written and learned from by now."""
        return self._start_seen + self._tokens

    def _next_question(self) -> int:
        """Place of the question that the next step begins with."""
        steps = self.trainer.global_step - self._start_step if self.trainer is not None else 0
        return self._start_question + steps * self.questions_per_step

    def _place(self) -> dict[str, Any]:
        return {"question": self._next_question()}

    def _take_place(self, state_dict: dict[str, Any]) -> None:
        self._start_question = state_dict["question"]

    # -------------------------------------------------------------------------------------------- the loader

    def train_dataloader(self) -> QuestionSteps:  # type: ignore[override]  # there is nothing to wait for
        rank, world_size, _ = self._devices()
        parts = self.trainer.accumulate_grad_batches if self.trainer is not None else self.micro_steps()
        return QuestionSteps(self.order, self._next_question(), self.questions_per_step, parts, rank, world_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Questions stay as they are; held-out rows travel."""
        return batch if isinstance(batch, Part) else super().transfer_batch_to_device(batch, device, dataloader_idx)


def _cannot_check(name: str) -> str:
    return (
        f"--data.tasks: nobody can check answers to {name}, so nothing is to be learned from them: take tasks such as "
        "arithmetic, spelling or gsm8k"
    )
