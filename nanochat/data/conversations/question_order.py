"""An endless order of questions whose answers can be checked, and each process's share of every step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from nanochat.data.conversations.mixture import ROUND, Mixture
from nanochat.tasks.task import Item, Task


class Question(NamedTuple):
    """A question for the model.

    Attributes:
        place: its index in the endless order, which seeds the sampling of its answers.
        task: the task that checks the answers.
        item: of the task.
    """

    place: int
    task: Task
    item: Item


class MicroStep(NamedTuple):
    """A micro-step: it gets all of this process's questions of the step, and trains on its share of their answers.

    Attributes:
        questions: the same in all micro-steps of a step.
        number: of the micro-step within the step, from 0.
    """

    questions: list[Question]
    number: int


class QuestionOrder:
    """An endless order of questions, a function of the seed.

    Args:
        mixture: of tasks.
        seed: of the order.
    """

    def __init__(self, mixture: Mixture, seed: int) -> None:
        self.mixture, self.seed = mixture, seed
        self._open: tuple[int, list[tuple[Task, Item]]] | None = None

    def question(self, index: int) -> Question:
        """The question with this index, from 0."""
        number = bisect_right(range(index // ROUND + 3), index, key=self.mixture.items_before) - 1
        if self._open is None or self._open[0] != number:
            self._open = number, self.mixture.items(self.seed, number)
        return Question(index, *self._open[1][index - self.mixture.items_before(number)])


class QuestionSteps:
    """This rank's micro-steps of questions, endlessly.

    Args:
        order: of questions.
        first: index of the first question of the first step.
        count: questions in a step, over all processes.
        micro_steps: micro-steps in a step.
        rank: number of this process; it takes every ``world_size``-th question.
        world_size: number of processes.
    """

    def __init__(
        self, order: QuestionOrder, first: int, count: int, micro_steps: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.order, self.first, self.count, self.micro_steps = order, first, count, micro_steps
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[MicroStep]:
        first = self.first
        while True:
            indices = range(first + self.rank, first + self.count, self.world_size)
            questions = [self.order.question(index) for index in indices]
            for number in range(self.micro_steps):
                yield MicroStep(questions, number)
            first += self.count
