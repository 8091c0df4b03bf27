"""The interface of a task: training conversations, held-out conversations, and a check of answers."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from typing import NamedTuple

from nanochat.tokenizer import Message

Parts = list[dict[str, str]]  # content parts of a message: {"type": "text" | "python" | "python_output", "text": ...}


class Item(NamedTuple):
    """A conversation.

    Attributes:
        messages: the whole conversation; the last message is a correct answer by the assistant.
        answer: the reference that :meth:`Task.check` compares an answer with, in a form that the task defines.
    """

    messages: tuple[Message, ...]
    answer: str = ""

    @property
    def question(self) -> tuple[Message, ...]:
        """The messages that the assistant answers: all but the last one."""
        return self.messages[:-1]


class Task(ABC):
    """A source of conversations of one kind.

    An item is a function of the task, the seed and the index, so any process can create any item independently.

    Attributes:
        name: its name in the configuration.
        scored: whether answers can be checked.
    """

    name: str
    scored = True

    @abstractmethod
    def item(self, seed: int, index: int) -> Item:
        """A training conversation; ``index`` is any non-negative integer."""

    @property
    @abstractmethod
    def held_out_count(self) -> int:
        """Number of held-out conversations."""

    @abstractmethod
    def held_out(self, index: int) -> Item:
        """A conversation that is never used for training; the order is random, so the first n are a fair sample."""

    def check(self, item: Item, answer: str) -> bool:
        """Whether an answer to the item's question is correct.

        Args:
            item: an item of this task.
            answer: the text that the assistant wrote, without calculator calls and their results.
        """
        return normalise_whitespace(answer) == normalise_whitespace(item.answer)


def normalise_whitespace(text: str) -> str:
    """The text with each run of whitespace replaced by one space, and none at its ends."""
    return " ".join(text.split())


def single_turn(question: str, content: str | Parts, answer: str | None = None) -> Item:
    """A conversation of one question and one answer.

    Args:
        question: content of the user message.
        content: content of the assistant message.
        answer: the reference for :meth:`Task.check`; None takes the text of ``content``.
    """
    if answer is None:
        answer = content if isinstance(content, str) else "".join(p["text"] for p in content if p["type"] == "text")
    return Item(({"role": "user", "content": question}, {"role": "assistant", "content": content}), answer)


def calculator_call(expression: str, result: str, text: str) -> Parts:
    """Content of an assistant message that calls the calculator, receives the result, and then writes ``text``."""
    return [
        {"type": "python", "text": expression},
        {"type": "python_output", "text": result},
        {"type": "text", "text": text},
    ]


def seeded_rng(*salts: str | int) -> random.Random:
    """A random number generator seeded by the arguments, the same on every machine."""
    return random.Random("/".join(map(str, salts)))


def permuted_index(seed: int, index: int, count: int, *salts: str | int) -> tuple[int, int]:
    """Element ``index`` of an endless sequence of epochs, each a pseudo-random permutation of ``range(count)``.

    Returns:
        The element, from 0 to ``count - 1``; and the epoch.
    """
    epoch, position = divmod(index, count)
    rng = seeded_rng("order", seed, epoch, count, *salts)
    start = rng.randrange(count)
    step = rng.randrange(count) | 1
    while math.gcd(step, count) > 1:  # a step coprime to count reaches every element
        step += 2
    return (start + position * step) % count, epoch
