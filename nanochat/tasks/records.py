"""Tasks whose conversations lie in files: other people's data sets, and the user's own conversations."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from nanochat.tasks.final_number import final_number
from nanochat.tasks.task import Item, Message, Parts, Task, permuted_index, seeded_rng, single_turn

Record = dict[str, Any]  # a row of a file
LETTERS = "ABCDEFGHIJ"
_CALL = re.compile(r"<<([^<>=]*)=([^<>]*)>>")


class Records(Task):
    """Conversations made of the records of files.

    Args:
        name: of the task.
        learned: records to learn from.
        held_out: records to be scored on.
        convert: makes a conversation of a record.
        check: whether an answer to an item is right; None where that cannot be said.

    Raises:
        ValueError: if there is nothing to learn from.
    """

    def __init__(
        self,
        name: str,
        learned: Sequence[Record],
        held_out: Sequence[Record],
        convert: Callable[[Record], Item],
        check: Callable[[Item, str], bool] | None = None,
    ) -> None:
        if not len(learned):
            raise ValueError(f"the task {name} has no conversations to learn from")
        self.name, self.scored = name, check is not None
        self._learned, self._held_out = learned, held_out
        self._convert, self._check = convert, check

    def item(self, seed: int, index: int) -> Item:
        which, _ = permuted_index(seed, index, len(self._learned), self.name)
        return self._convert(self._learned[which])

    @property
    def held_out_count(self) -> int:
        return len(self._held_out)

    def held_out(self, index: int) -> Item:
        which, _ = permuted_index(0, index, len(self._held_out), self.name, "held out")
        return self._convert(self._held_out[which])

    def check(self, item: Item, answer: str) -> bool:
        assert self._check is not None
        return self._check(item, answer)


def conversation(record: Record) -> Item:
    """A record with ``messages``, as SmolTalk has them and as users write their own.

    What may be said has been checked when the file was read, or else is when the conversation becomes ids.
    """
    messages: list[Message] = list(record["messages"])
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()  # the end is a question that nobody answers
    return Item(tuple(messages), "")


def _choices(question: str, choices: Sequence[str], right: int) -> Item:
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return single_turn("\n".join([question.strip(), *lines, "Answer with the letter."]), LETTERS[right])


def mmlu(record: Record) -> Item:
    """MMLU: question, choices, and the number of the right one; in auxiliary_train all of it one level deeper."""
    record = record.get("train") or record
    return _choices(record["question"], record["choices"], int(record["answer"]))


def arc(record: Record) -> Item:
    """ARC: the choices have labels, letters or digits, and answerKey names the right one."""
    labels = list(record["choices"]["label"])
    return _choices(record["question"], record["choices"]["text"], labels.index(record["answerKey"]))


def check_letter(item: Item, answer: str) -> bool:
    """The answer begins with the letter of the right choice."""
    return re.match(rf"\W*{item.answer}\b", answer.strip()) is not None


def gsm8k(record: Record) -> Item:
    """GSM8K: a worked answer whose ``<<a*b=c>>`` become calls of the calculator; after ``####`` comes the number."""
    worked, _, number = record["answer"].rpartition("####")
    parts: Parts = []
    place = 0
    for found in _CALL.finditer(worked):
        parts.append({"type": "text", "text": worked[place : found.start()]})
        parts.append({"type": "python", "text": found[1].strip()})
        parts.append({"type": "python_output", "text": found[2].strip()})
        place = found.end()
    number = number.strip().replace(",", "")
    parts.append({"type": "text", "text": f"{worked[place:].rstrip()}\nIt is {number}."})
    return single_turn(record["question"].strip(), [p for p in parts if p["text"]], number)


def check_number(item: Item, answer: str) -> bool:
    """The answer's number (:func:`~nanochat.tasks.final_number.final_number`) is the right one."""
    number = final_number(answer)
    return number is not None and number == final_number(item.answer)


def split_held_out(records: Sequence[Record], share: int = 64) -> tuple[list[Record], list[Record]]:
    """Records to learn from, and one of so many held out (at least one of two or more), by chance but always alike."""
    order = sorted(range(len(records)), key=lambda i: seeded_rng("held out", i).random())
    count = max(1, len(records) // share) if len(records) > 1 else 0
    chosen = set(order[:count])
    return (
        [r for i, r in enumerate(records) if i not in chosen],
        [r for i, r in enumerate(records) if i in chosen],
    )
