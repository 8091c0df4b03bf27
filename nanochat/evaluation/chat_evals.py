"""The chat tasks, each ready to be asked: its items, what chance would score, and how an answer is marked."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import islice

from nanochat.evaluation.humaneval import try_program
from nanochat.evaluation.multiple_choice import MultipleChoice, Question
from nanochat.evaluation.task_accuracy import AT_ONCE, answer_all
from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling
from nanochat.tasks import records
from nanochat.tasks.records import Record
from nanochat.tasks.task import Item, Task, permuted_index, single_turn
from nanochat.tokenizer import Tokenizer, render_prompt

OnDone = Callable[[int], object]
TEMPERATURE = 0.8  # of several samples, as in arXiv 2107.03374 for pass@k with large k; one alone is the likeliest


class Exam(ABC):
    """A task whose answers are marked.

    Attributes:
        name: of the task.
        kind: how it is answered, in a word.
        chance: the accuracy of one who guesses.
        samples: answers to each item.
        items: those that are asked, in an order that makes the first few a fair sample.
    """

    name: str
    kind: str
    chance = 0.0
    samples = 1
    items: list[Item]

    def fingerprint(self) -> str:
        """A short hash of all that is asked."""
        text = json.dumps(
            [self.name, self.kind, self.samples, [[*map(dict, i.question), i.answer] for i in self.items]]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def too_long(self, tokenizer: Tokenizer, context: int) -> int:
        """How many questions do not fit into a model's context, with a token of the answer."""
        return sum(len(render_prompt(tokenizer, item.question)) >= context for item in self.items)

    @abstractmethod
    def mark(self, chosen: Sequence[int], on_done: OnDone) -> list[int]:
        """How many answers to each of some items are right: of one, or of several samples.

        Args:
            chosen: numbers of items.
            on_done: is told, as it goes, how many more items are done.
        """


class LetterExam(Exam):
    """Choices with letters: the likeliest of the offered letters is the answer. One forward pass a question.

    Args:
        name: of the task.
        rows: its records.
        most: how many to ask; None for all.
        letters: with the model.
        tokenizer: the model's.
    """

    kind, chance = "letters", 0.25

    def __init__(
        self, name: str, rows: Sequence[Record], most: int | None, letters: MultipleChoice, tokenizer: Tokenizer
    ) -> None:
        self.name, self.letters, self.tokenizer = name, letters, tokenizer
        convert = records.mmlu if name == "mmlu" else records.arc
        chosen = in_order(name, rows, most)
        self.items = [_converted(name, convert, row) for row in chosen]
        self._offered = [_number_of_choices(row) for row in chosen]

    def mark(self, chosen: Sequence[int], on_done: OnDone) -> list[int]:
        questions = [Question(render_prompt(self.tokenizer, self.items[i].question), self._offered[i]) for i in chosen]
        found = self.letters.answers(questions, on_done)
        right = (records.LETTERS.index(self.items[i].answer) for i in chosen)
        return [int(letter == wanted) for letter, wanted in zip(found, right, strict=True)]


class AnswerExam(Exam):
    """Questions that are answered in words, by the likeliest tokens, with the calculator.

    Args:
        name: of the task.
        items: what to ask.
        check: whether an answer to an item is right.
        engine: with the model.
        max_tokens: the longest answer.
    """

    kind = "answer"

    def __init__(
        self, name: str, items: list[Item], check: Callable[[Item, str], bool], engine: Engine, max_tokens: int
    ) -> None:
        self.name, self.items, self.check = name, items, check
        self.engine, self.max_tokens = engine, max_tokens

    def mark(self, chosen: Sequence[int], on_done: OnDone) -> list[int]:
        right: dict[int, int] = {}
        # of similar lengths together
        order = sorted(chosen, key=lambda i: sum(len(str(message["content"])) for message in self.items[i].question))
        for start in range(0, len(order), AT_ONCE):
            some = order[start : start + AT_ONCE]
            answers = answer_all(self.engine, [self.items[i] for i in some], self.max_tokens)
            for index, answer in zip(some, answers, strict=True):
                right[index] = int(self.check(self.items[index], answer))
            on_done(len(some))
        return [right[index] for index in chosen]


class ProgramExam(Exam):
    """HumanEval: programs, which are run in the sandbox.

    Args:
        name: of the task.
        rows: its records.
        most: how many to ask; None for all.
        engine: with the model.
        samples: programs for each question. One alone is the likeliest; several are drawn.
        max_tokens: the longest answer.
    """

    kind = "programs"

    def __init__(
        self, name: str, rows: Sequence[Record], most: int | None, engine: Engine, samples: int, max_tokens: int
    ) -> None:
        self.name, self.engine, self.samples, self.max_tokens = name, engine, samples, max_tokens
        self.rows = in_order(name, rows, most)
        self.items = [single_turn(str(row["prompt"]), "", str(row["test"])) for row in self.rows]

    def mark(self, chosen: Sequence[int], on_done: OnDone) -> list[int]:
        passed = []
        at_once = max(1, AT_ONCE // self.samples)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(chosen), at_once):
                some = chosen[start : start + at_once]
                tries = [
                    (self.rows[i], answer)
                    for i, answers in zip(some, self._answers(some), strict=True)
                    for answer in answers
                ]
                outcomes = list(pool.map(try_program, *zip(*tries, strict=True)))
                refused = next((outcome for outcome in outcomes if outcome.kind == "refused"), None)
                if refused is not None:
                    raise ValueError(f"a program could not be isolated, and was not run: {refused.detail}")
                for place in range(len(some)):
                    mine = outcomes[place * self.samples : (place + 1) * self.samples]
                    passed.append(sum(outcome.passed for outcome in mine))
                on_done(len(some))
        return passed

    def _answers(self, chosen: Sequence[int]) -> list[list[str]]:
        """The samples for each of some questions; empty ones where the question leaves no room for an answer."""
        settings = Sampling(temperature=0.0 if self.samples == 1 else TEMPERATURE, top_k=None)
        started: list[list[Generation]] = []
        for index in chosen:
            prompt = render_prompt(self.engine.tokenizer, self.items[index].question)
            fits = len(prompt) < self.engine.context
            seed = index * self.samples
            started.append(
                self.engine.start(prompt, settings, self.max_tokens, seed, count=self.samples) if fits else []
            )
        self.engine.run([generation for group in started for generation in group])
        return [[generation.text for generation in group] or [""] * self.samples for group in started]


def in_order(name: str, rows: Sequence[Record], most: int | None) -> list[Record]:
    """The first of a task's records in an order that makes few of them a fair sample, always the same one."""
    count = len(rows) if most is None else min(most, len(rows))
    return [rows[permuted_index(0, index, len(rows), name, "held out")[0]] for index in range(count)]


def gsm8k_exam(rows: Sequence[Record], most: int | None, engine: Engine, max_tokens: int) -> Exam:
    """GSM8K: worked with the calculator; right is whose final number is."""
    items = [_converted("gsm8k", records.gsm8k, row) for row in in_order("gsm8k", rows, most)]
    return AnswerExam("gsm8k", items, records.check_number, engine, max_tokens)


def spelling_bee(spelling: Task, most: int | None, engine: Engine, max_tokens: int) -> Exam:
    """ "How many r are in strawberry?": the questions of the spelling task that have a number for an answer."""
    every = (spelling.held_out(index) for index in range(spelling.held_out_count))
    counting = (item for item in every if item.answer.isdigit())
    return AnswerExam("spelling-bee", list(islice(counting, most)), spelling.check, engine, max_tokens)


def offline_exam(task: Task, most: int | None, engine: Engine, max_tokens: int) -> Exam:
    """One of the tasks that fine-tuning learns from, on what it holds out."""
    count = task.held_out_count if most is None else min(most, task.held_out_count)
    return AnswerExam(task.name, [task.held_out(index) for index in range(count)], task.check, engine, max_tokens)


def _number_of_choices(row: Record) -> int:
    choices = (row.get("train") or row)["choices"]
    return len(choices["text"] if isinstance(choices, Mapping) else choices)


def _converted(name: str, convert: Callable[[Record], Item], row: Record) -> Item:
    """A record as a conversation.

    Raises:
        ValueError: if it has not the form of the task's records.
    """
    try:
        item = convert(row)
        if name == "gsm8k":
            Decimal(item.answer)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        shown = json.dumps(row, default=str)[:120]
        raise ValueError(
            f"{name} has a record that is not of its form ({type(error).__name__}: {error}): {shown}"
        ) from error
    return item
