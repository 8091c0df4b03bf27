"""What a task is: conversations to learn from, others held out, and how an answer is checked."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

Message = Mapping[str, Any]  # {"role": ..., "content": ...}
Parts = list[dict[str, str]]  # of a message's content: {"type": "text" | "python" | "python_output", "text": ...}


class Item(NamedTuple):
    """A conversation.

    Attributes:
        messages: all of it; the last one is the assistant's, and right.
        answer: what an answer is compared with; what that means is the task's own.
    """

    messages: tuple[Message, ...]
    answer: str = ""

    @property
    def question(self) -> tuple[Message, ...]:
        """What the assistant is to answer."""
        return self.messages[:-1]


class Task(ABC):
    """A kind of conversation.

    An item depends on nothing but the task, the seed and the index: any process can make any of them at any time.

    Attributes:
        name: as in the configuration.
        scored: whether answers can be checked.
    """

    name: str
    scored = True

    @abstractmethod
    def item(self, seed: int, index: int) -> Item:
        """A conversation to learn from; ``index`` counts from 0 and has no end."""

    @property
    @abstractmethod
    def held_out_count(self) -> int:
        """How many conversations are held out."""

    @abstractmethod
    def held_out(self, index: int) -> Item:
        """A conversation that is never learned from, in an order that makes the first few a fair sample."""

    def check(self, item: Item, answer: str) -> bool:
        """Whether an answer to the item's question is right.

        Args:
            item: one of this task's.
            answer: what the assistant wrote, without its calls of the calculator and what came of them.
        """
        return normalise_whitespace(answer) == normalise_whitespace(item.answer)


def normalise_whitespace(text: str) -> str:
    """The text with any white space as one space, and none around it."""
    return " ".join(text.split())


def single_turn(question: str, content: str | Parts, answer: str | None = None) -> Item:
    """A question and its answer.

    Args:
        question: what the user says.
        content: what the assistant says.
        answer: what an answer is compared with; None for the text of the content.
    """
    if answer is None:
        answer = content if isinstance(content, str) else "".join(p["text"] for p in content if p["type"] == "text")
    return Item(({"role": "user", "content": question}, {"role": "assistant", "content": content}), answer)


def calculator_call(expression: str, result: str, text: str) -> Parts:
    """What the assistant says when it calls the calculator first."""
    return [
        {"type": "python", "text": expression},
        {"type": "python_output", "text": result},
        {"type": "text", "text": text},
    ]


def seeded_rng(*salts: str | int) -> random.Random:
    """Random numbers that depend on the arguments alone, the same on every machine."""
    return random.Random("/".join(map(str, salts)))


def permuted_index(seed: int, index: int, count: int, *salts: str | int) -> tuple[int, int]:
    """The ``index``-th of ``count`` things in an endless order in which each comes once before any comes again.

    Returns:
        Which one, below ``count``; and how many times all have been there before.
    """
    turn, place = divmod(index, count)
    rng = seeded_rng("order", seed, turn, count, *salts)
    start = rng.randrange(count)
    step = rng.randrange(count) | 1
    while math.gcd(step, count) > 1:  # only then does it come by all of them
        step += 2
    return (start + place * step) % count, turn
