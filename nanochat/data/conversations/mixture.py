"""A mixture of tasks: one endless order of conversations, of which each task has its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanochat.data.tokens.shuffle import shuffled
from nanochat.tasks.phrasings import SYSTEM_PROMPTS, pick
from nanochat.tasks.task import Item, Message, Task, seeded_rng

ROUND = 512  # items that are drawn together; the conversations made of them are packed together
SYSTEM_SHARE = 0.03  # of the conversations begin with a system message, as some programs send one
MOST_TURNS = 4

Turns = list[tuple[Message, ...]]  # a conversation: the messages of each of its items


class Mixture:
    """An endless order of conversations in rounds, a function of the seed and the number of the round.

    In each round every task has its share, to within one item. The items of a task come in the task's own order, each
    exactly once.

    Args:
        tasks: the tasks with their weights, which need not sum to 1.
        several_turns: share of the short items that are appended to the conversation before, as its next turn.

    Raises:
        ValueError: if a weight is negative, or none is positive.
    """

    def __init__(self, tasks: Mapping[Task, float], several_turns: float = 0.0) -> None:
        for task, weight in tasks.items():
            if weight < 0:
                raise ValueError(f"--data.tasks: the weight of {task.name} must not be negative, but is {weight}")
        whole = sum(tasks.values())
        if whole <= 0:
            raise ValueError("--data.tasks: at least one task needs a weight above 0")
        if not 0 <= several_turns <= 1:
            raise ValueError(f"--data.several_turns is a share from 0 to 1, not {several_turns}")
        self.shares = {task: weight / whole for task, weight in tasks.items() if weight > 0}
        self.several_turns = several_turns

    def items(self, seed: int, number: int) -> list[tuple[Task, Item]]:
        """The items of a round in a shuffled order, each with its task."""
        drawn = []
        for task, share in self.shares.items():
            first, last = (int((number + n) * ROUND * share + 0.5) for n in (0, 1))
            drawn += [(task, task.item(seed, index)) for index in range(first, last)]
        return [drawn[i] for i in shuffled(len(drawn), seed, number)]

    def items_before(self, number: int) -> int:
        """Number of items in all rounds before a round."""
        return sum(int(number * ROUND * share + 0.5) for share in self.shares.values())

    def round(self, seed: int, number: int) -> list[Turns]:
        """The conversations of a round, each of one or several items."""
        rng = seeded_rng("turns", seed, number)
        conversations: list[Turns] = []
        extensible = False  # whether an item may be appended to the last conversation
        for _, item in self.items(seed, number):
            is_short = item.messages[0]["role"] != "system" and len(item.messages) == 2
            appends = rng.random() < self.several_turns
            if appends and is_short and extensible and len(conversations[-1]) < MOST_TURNS:
                conversations[-1].append(item.messages)
                continue
            messages = item.messages
            if is_short and rng.random() < SYSTEM_SHARE:
                messages = ({"role": "system", "content": pick(rng, SYSTEM_PROMPTS)}, *messages)
            conversations.append([messages])
            extensible = is_short
        return conversations

    def held_out(self, count: int) -> list[tuple[Task, Item]]:
        """About ``count`` held-out items, of each task its share, shuffled so that the first few are a fair sample."""
        drawn: list[tuple[Task, Item]] = []
        for task, share in self.shares.items():
            most = min(task.held_out_count, max(1, round(count * share)))
            drawn += [(task, task.held_out(index)) for index in range(most)]
        return [drawn[i] for i in shuffled(len(drawn), 0, 0)]


def describe(shares: Mapping[Task, float]) -> str:
    """The tasks with their shares, in words."""
    return ", ".join(f"{task.name} {share:.0%}" for task, share in shares.items())


def first_items(tasks: Sequence[Task], count: int = 50) -> list[list[Item]]:
    """The first items of each task, which identify its content."""
    return [[task.item(0, index) for index in range(count)] for task in tasks]
