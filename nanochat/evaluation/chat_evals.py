"""Evaluations of the chat tasks: the questions of each, its accuracy at chance, and how answers are scored."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import islice

from nanochat.evaluation.humaneval import run_answer
from nanochat.evaluation.multiple_choice import MultipleChoice, Question
from nanochat.evaluation.task_accuracy import BATCH_SIZE, generate_answers
from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling
from nanochat.tasks import records
from nanochat.tasks.records import Record
from nanochat.tasks.task import Item, Task, permuted_index, single_turn
from nanochat.tokenizer import Tokenizer, render_prompt

OnDone = Callable[[int], object]
TEMPERATURE = 0.8  # for several samples, as in arXiv 2107.03374 for pass@k with large k; a single one is greedy


class ChatEval(ABC):
    """The evaluation of a chat task.

    Attributes:
        name: name of the task.
        kind: how answers are obtained: "letters", "answer" or "programs".
        chance: accuracy of random guessing.
        samples: number of answers to each item.
        items: the questions, in an order that makes the first few a fair sample.
    """

    name: str
    kind: str
    chance = 0.0
    samples = 1
    items: list[Item]

    def fingerprint(self) -> str:
        """A short SHA-256 of the questions, the right answers and the number of samples."""
        text = json.dumps(
            [self.name, self.kind, self.samples, [[*map(dict, i.question), i.answer] for i in self.items]]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def count_too_long(self, tokenizer: Tokenizer, context: int) -> int:
        """The number of questions that leave no room for an answer in the context."""
        return sum(len(render_prompt(tokenizer, item.question)) >= context for item in self.items)

    @abstractmethod
    def count_right(self, indices: Sequence[int], on_done: OnDone) -> list[int]:
        """The number of right samples for each of the given items.

        Args:
            indices: indices of items.
            on_done: called with the number of items newly finished.
        """


class MultipleChoiceEval(ChatEval):
    """Multiple choice: the answer is the most likely of the offered letters, from one forward pass per question.

    Args:
        name: name of the task.
        rows: its records.
        max_items: maximum number of questions; None for all.
        letters: scores letters with the model.
        tokenizer: the model's tokenizer.
    """

    kind, chance = "letters", 0.25

    def __init__(
        self, name: str, rows: Sequence[Record], max_items: int | None, letters: MultipleChoice, tokenizer: Tokenizer
    ) -> None:
        self.name, self.letters, self.tokenizer = name, letters, tokenizer
        convert = records.mmlu if name == "mmlu" else records.arc
        sample = sample_records(name, rows, max_items)
        self.items = [_to_item(name, convert, row) for row in sample]
        self._choices = [_count_choices(row) for row in sample]

    def count_right(self, indices: Sequence[int], on_done: OnDone) -> list[int]:
        questions = [Question(render_prompt(self.tokenizer, self.items[i].question), self._choices[i]) for i in indices]
        answers = self.letters.answers(questions, on_done)
        solutions = (records.LETTERS.index(self.items[i].answer) for i in indices)
        return [int(answer == solution) for answer, solution in zip(answers, solutions, strict=True)]


class GenerativeEval(ChatEval):
    """Questions with generated answers: greedy decoding, with the calculator.

    Args:
        name: name of the task.
        items: the questions.
        check: whether an answer to an item is right.
        engine: generates with the model.
        max_tokens: maximum length of an answer.
    """

    kind = "answer"

    def __init__(
        self, name: str, items: list[Item], check: Callable[[Item, str], bool], engine: Engine, max_tokens: int
    ) -> None:
        self.name, self.items, self.check = name, items, check
        self.engine, self.max_tokens = engine, max_tokens

    def count_right(self, indices: Sequence[int], on_done: OnDone) -> list[int]:
        right: dict[int, int] = {}
        # batches of similar lengths
        order = sorted(indices, key=lambda i: sum(len(str(message["content"])) for message in self.items[i].question))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            answers = generate_answers(self.engine, [self.items[i] for i in batch], self.max_tokens)
            for index, answer in zip(batch, answers, strict=True):
                right[index] = int(self.check(self.items[index], answer))
            on_done(len(batch))
        return [right[index] for index in indices]


class ProgramEval(ChatEval):
    """HumanEval: generated programs, which are run in the sandbox.

    Args:
        name: name of the task.
        rows: its records.
        max_items: maximum number of questions; None for all.
        engine: generates with the model.
        samples: programs per question. A single one is greedy; several are sampled.
        max_tokens: maximum length of an answer.
    """

    kind = "programs"

    def __init__(
        self, name: str, rows: Sequence[Record], max_items: int | None, engine: Engine, samples: int, max_tokens: int
    ) -> None:
        self.name, self.engine, self.samples, self.max_tokens = name, engine, samples, max_tokens
        self.rows = sample_records(name, rows, max_items)
        self.items = [single_turn(str(row["prompt"]), "", str(row["test"])) for row in self.rows]

    def count_right(self, indices: Sequence[int], on_done: OnDone) -> list[int]:
        """As :meth:`ChatEval.count_right`.

        Raises:
            ValueError: if a program could not be isolated; it was not run then.
        """
        counts = []
        batch_size = max(1, BATCH_SIZE // self.samples)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(indices), batch_size):
                batch = indices[start : start + batch_size]
                pairs = [
                    (self.rows[i], answer)
                    for i, answers in zip(batch, self._generate(batch), strict=True)
                    for answer in answers
                ]
                outcomes = list(pool.map(run_answer, *zip(*pairs, strict=True)))
                refused = next((outcome for outcome in outcomes if outcome.kind == "refused"), None)
                if refused is not None:
                    raise ValueError(f"a program could not be isolated and was not run: {refused.detail}")
                for first in range(0, len(outcomes), self.samples):
                    counts.append(sum(outcome.passed for outcome in outcomes[first : first + self.samples]))
                on_done(len(batch))
        return counts

    def _generate(self, indices: Sequence[int]) -> list[list[str]]:
        """The samples for each question; empty texts where the question fills the context."""
        sampling = Sampling(temperature=0.0 if self.samples == 1 else TEMPERATURE, top_k=None)
        generations: list[list[Generation]] = []
        for index in indices:
            prompt = render_prompt(self.engine.tokenizer, self.items[index].question)
            fits = len(prompt) < self.engine.context
            seed = index * self.samples
            generations.append(
                self.engine.start(prompt, sampling, self.max_tokens, seed, count=self.samples) if fits else []
            )
        self.engine.run([generation for group in generations for generation in group])
        return [[generation.text for generation in group] or [""] * self.samples for group in generations]


def sample_records(name: str, rows: Sequence[Record], max_items: int | None) -> list[Record]:
    """The first ``max_items`` records in a fixed pseudo-random order, which makes a few of them a fair sample."""
    count = len(rows) if max_items is None else min(max_items, len(rows))
    return [rows[permuted_index(0, index, len(rows), name, "held out")[0]] for index in range(count)]


def gsm8k_eval(rows: Sequence[Record], max_items: int | None, engine: Engine, max_tokens: int) -> ChatEval:
    """GSM8K: an answer is right if its final number is."""
    items = [_to_item("gsm8k", records.gsm8k, row) for row in sample_records("gsm8k", rows, max_items)]
    return GenerativeEval("gsm8k", items, records.check_number, engine, max_tokens)


def spelling_bee_eval(spelling: Task, max_items: int | None, engine: Engine, max_tokens: int) -> ChatEval:
    """ "How many r are in strawberry?": the questions of the spelling task whose answer is a number."""
    items = (spelling.held_out(index) for index in range(spelling.held_out_count))
    counting = (item for item in items if item.answer.isdigit())
    return GenerativeEval("spelling-bee", list(islice(counting, max_items)), spelling.check, engine, max_tokens)


def offline_eval(task: Task, max_items: int | None, engine: Engine, max_tokens: int) -> ChatEval:
    """The held-out questions of a fine-tuning task."""
    count = task.held_out_count if max_items is None else min(max_items, task.held_out_count)
    return GenerativeEval(task.name, [task.held_out(index) for index in range(count)], task.check, engine, max_tokens)


def _count_choices(row: Record) -> int:
    choices = (row.get("train") or row)["choices"]
    return len(choices["text"] if isinstance(choices, Mapping) else choices)


def _to_item(name: str, convert: Callable[[Record], Item], row: Record) -> Item:
    """Converts a record to a conversation.

    Raises:
        ValueError: if the record does not have the task's format.
    """
    try:
        item = convert(row)
        if name == "gsm8k":
            Decimal(item.answer)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        shown = json.dumps(row, default=str)[:120]
        raise ValueError(f"{name} has an invalid record ({type(error).__name__}: {error}): {shown}") from error
    return item
