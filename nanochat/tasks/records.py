"""Tasks whose conversations come from records in files: public datasets and the user's own conversations."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from nanochat.tasks.final_number import MARK, final_number
from nanochat.tasks.task import Item, Message, Parts, Task, permuted_index, seeded_rng, single_turn

Record = dict[str, Any]  # a row of a file
LETTERS = "ABCDEFGHIJ"  # labels of the choices
_CALL = re.compile(r"<<([^<>=]*)=([^<>]*)>>")  # a calculation in a solution of GSM8K


class Records(Task):
    """A task made of records.

    Args:
        name: name of the task.
        train: records for training.
        held_out: records for evaluation.
        convert: converts a record into a conversation.
        check: whether an answer to an item is correct; None if answers cannot be checked.

    Raises:
        ValueError: if there are no training records.
    """

    def __init__(
        self,
        name: str,
        train: Sequence[Record],
        held_out: Sequence[Record],
        convert: Callable[[Record], Item],
        check: Callable[[Item, str], bool] | None = None,
    ) -> None:
        if not len(train):
            raise ValueError(f"the task {name} has no conversations for training")
        self.name, self.scored = name, check is not None
        self._train, self._held_out = train, held_out
        self._convert, self._check = convert, check

    def item(self, seed: int, index: int) -> Item:
        chosen, _ = permuted_index(seed, index, len(self._train), self.name)
        return self._convert(self._train[chosen])

    @property
    def held_out_count(self) -> int:
        return len(self._held_out)

    def held_out(self, index: int) -> Item:
        chosen, _ = permuted_index(0, index, len(self._held_out), self.name, "held out")
        return self._convert(self._held_out[chosen])

    def check(self, item: Item, answer: str) -> bool:
        assert self._check is not None
        return self._check(item, answer)


def conversation(record: Record) -> Item:
    """Converts a record with ``messages``: SmolTalk, and the user's own conversations.

    The messages are not validated here: that happens when the file is read, or when the conversation is rendered.
    """
    messages: list[Message] = list(record["messages"])
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()  # unanswered messages at the end
    return Item(tuple(messages), "")


def _multiple_choice(question: str, choices: Sequence[str], correct: int) -> Item:
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return single_turn("\n".join([question.strip(), *lines, "Answer with the letter."]), LETTERS[correct])


def mmlu(record: Record) -> Item:
    """Converts a record of MMLU: question, choices, and the index of the correct one.

    In the split auxiliary_train, these fields are nested in a field "train".
    """
    record = record.get("train") or record
    return _multiple_choice(record["question"], record["choices"], int(record["answer"]))


def arc(record: Record) -> Item:
    """Converts a record of ARC: choices have labels (letters or digits), and answerKey is the correct label."""
    labels = list(record["choices"]["label"])
    return _multiple_choice(record["question"], record["choices"]["text"], labels.index(record["answerKey"]))


def check_letter(item: Item, answer: str) -> bool:
    """Whether the answer begins with the letter of the correct choice."""
    return re.match(rf"\W*{item.answer}\b", answer.strip()) is not None


def gsm8k(record: Record) -> Item:
    """Converts a record of GSM8K.

    Each ``<<a*b=c>>`` in the solution becomes a calculator call; the number after ``####`` is the reference answer.
    """
    solution, _, number = record["answer"].rpartition(MARK)
    parts: Parts = []
    position = 0
    for match in _CALL.finditer(solution):
        parts.append({"type": "text", "text": solution[position : match.start()]})
        parts.append({"type": "python", "text": match[1].strip()})
        parts.append({"type": "python_output", "text": match[2].strip()})
        position = match.end()
    number = number.strip().replace(",", "")
    parts.append({"type": "text", "text": f"{solution[position:].rstrip()}\nIt is {number}."})
    return single_turn(record["question"].strip(), [p for p in parts if p["text"]], number)


def check_number(item: Item, answer: str) -> bool:
    """Whether the final number of the answer (:func:`~nanochat.tasks.final_number.final_number`) is correct."""
    number = final_number(answer)
    return number is not None and number == final_number(item.answer)


def split_held_out(records: Sequence[Record], every: int = 64) -> tuple[list[Record], list[Record]]:
    """Splits records into training and held-out records, reproducibly at random.

    One record in ``every`` is held out, but at least one of two or more.
    """
    order = sorted(range(len(records)), key=lambda i: seeded_rng("held out", i).random())
    count = max(1, len(records) // every) if len(records) > 1 else 0
    held_out = set(order[:count])
    return (
        [r for i, r in enumerate(records) if i not in held_out],
        [r for i, r in enumerate(records) if i in held_out],
    )
