"""An endless order of questions whose answers can be checked, and how each step's are dealt out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from nanochat.data.conversations.mixture import ROUND, Mixture
from nanochat.tasks.task import Item, Task


class Question(NamedTuple):
    """One that is put to the model.

    Attributes:
        place: in the endless order, by which the answers to it are drawn.
        task: that checks them.
        item: of the task.
    """

    place: int
    task: Task
    item: Item


class Part(NamedTuple):
    """A micro-step: all of this process' questions of the step, whose answers are dealt out to its parts.

    Attributes:
        questions: the same ones in each part of a step.
        number: of the part, from 0.
    """

    questions: list[Question]
    number: int


class QuestionOrder:
    """An endless order of questions; a function of the seed.

    Args:
        mixture: of tasks.
        seed: of the order.
    """

    def __init__(self, mixture: Mixture, seed: int) -> None:
        self.mixture, self.seed = mixture, seed
        self._open: tuple[int, list[tuple[Task, Item]]] | None = None

    def question(self, index: int) -> Question:
        """The question at a place, from 0."""
        number = bisect_right(range(index // ROUND + 3), index, key=self.mixture.items_before) - 1
        if self._open is None or self._open[0] != number:
            self._open = number, self.mixture.items(self.seed, number)
        return Question(index, *self._open[1][index - self.mixture.items_before(number)])


class QuestionSteps:
    """This rank's questions, step by step, each step in its parts.

    Args:
        order: of questions.
        first: place of the first question of the first step.
        count: questions in a step, over all processes.
        parts: of a step.
        rank: which of the processes this is: each takes every ``world_size``-th question.
        world_size: number of processes.
    """

    def __init__(
        self, order: QuestionOrder, first: int, count: int, parts: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.order, self.first, self.count, self.parts = order, first, count, parts
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[Part]:
        first = self.first
        while True:
            places = range(first + self.rank, first + self.count, self.world_size)
            questions = [self.order.question(index) for index in places]
            for number in range(self.parts):
                yield Part(questions, number)
            first += self.count
