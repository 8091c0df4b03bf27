"""Tasks by name: generated on this machine, from the hub, or from the user's own files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from nanochat.data.conversations.arrow_table import Table, to_table
from nanochat.data.corpus.docstrings import DocEntry
from nanochat.data.corpus.embedded import DOCUMENTS, embedded_corpus
from nanochat.data.corpus.hub import Address, list_corpus
from nanochat.options import did_you_mean
from nanochat.tasks import records
from nanochat.tasks.arithmetic import Arithmetic
from nanochat.tasks.documentation import docstring_words, documentation, functions
from nanochat.tasks.identity import Identity
from nanochat.tasks.records import Record, Records, split_held_out
from nanochat.tasks.spelling import Spelling
from nanochat.tasks.task import Item, Task
from nanochat.tokenizer.conversation import check_messages

JSONL = ".jsonl"
MIN_USES = 2  # of a word in the documentation: a word used once may be a typo


class HubTask(NamedTuple):
    """A data set on the hub.

    Attributes:
        repository: owner/name.
        train: folder and split to train on.
        held_out: folder and split to score on.
        columns: the columns that ``convert`` needs.
        convert: turns a row into a conversation.
        check: returns whether an answer is right; None if answers cannot be checked.
    """

    repository: str
    train: tuple[str, str]
    held_out: tuple[str, str]
    columns: tuple[str, ...]
    convert: Callable[[Record], Item]
    check: Callable[[Item, str], bool] | None


def _arc(name: str) -> HubTask:
    columns = ("question", "choices", "answerKey")
    return HubTask("allenai/ai2_arc", (name, "train"), (name, "test"), columns, records.arc, records.check_letter)


HUB = {
    "smoltalk": HubTask(
        "HuggingFaceTB/smol-smoltalk", ("", "train"), ("", "test"), ("messages",), records.conversation, None
    ),
    "mmlu": HubTask(
        "cais/mmlu",
        ("auxiliary_train", "train"),
        ("all", "test"),
        ("question", "choices", "answer"),
        records.mmlu,
        records.check_letter,
    ),
    "arc-easy": _arc("ARC-Easy"),
    "arc-challenge": _arc("ARC-Challenge"),
    "gsm8k": HubTask(
        "openai/gsm8k", ("main", "train"), ("main", "test"), ("question", "answer"), records.gsm8k, records.check_number
    ),
}
LOCAL = ("functions", "documentation", "arithmetic", "spelling", "identity")
NAMES = (*LOCAL, *HUB)


def open_tasks(names: Sequence[str]) -> list[Task]:
    """Opens tasks by name, or by the path of a .jsonl file.

    Raises:
        ValueError: if there is no such task, or its data is unavailable or invalid, in one line.
    """
    return [_open(name) for name in names]


def _open(name: str) -> Task:
    if name.endswith(JSONL):
        return own_conversations(Path(name))
    if name in HUB:
        return hub_task(name)
    if name == "functions":
        return functions(documents())
    if name == "documentation":
        return documentation(documents())
    if name == "arithmetic":
        return Arithmetic()
    if name == "spelling":
        uses = Counter(docstring_words(documents()))
        return Spelling(word for word, count in uses.items() if count >= MIN_USES)
    if name == "identity":
        return Identity()
    known = f"(all of them: {', '.join(NAMES)}, or the path of a {JSONL} file)"
    raise ValueError(f"--data.tasks: there is no task {name}{did_you_mean(name, NAMES)} {known}")


@cache
def documents() -> list[DocEntry]:
    """The entries of the embedded corpus."""
    with open(embedded_corpus() / DOCUMENTS, encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return [DocEntry(d["name"], d["signature"], d["docstring"]) for d in found]


def hub_task(name: str) -> Records:
    """A task from the hub. Missing files are fetched."""
    source = HUB[name]
    train = hub_table(source.repository, *source.train, source.columns)
    held_out = hub_table(source.repository, *source.held_out, source.columns)
    return Records(name, train, held_out, source.convert, source.check)


def hub_table(repository: str, folder: str, split: str, columns: Sequence[str]) -> Table:
    """The rows of a data set on the hub. Missing files are fetched.

    Args:
        repository: owner/name.
        folder: in the repository.
        split: "train", "test", ...
        columns: the columns to keep.

    Raises:
        ValueError: if it is unavailable, or a file lacks columns.
    """
    listing = list_corpus(Address(repository, folder=folder), split)
    shards = [listing.shard(file) for file in listing.train]
    files = [path for shard in shards for path in shard.fetch()]
    return to_table(files, columns, "".join(shard.key for shard in shards))


def own_conversations(path: Path) -> Records:
    """Conversations from a .jsonl file with ``{"messages": [{"role": ..., "content": ...}, ...]}`` on each line.

    Raises:
        ValueError: if there is no such file, or a line is invalid, naming the line.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError as error:
        raise ValueError(f"--data.tasks: there is no file {path}") from error
    found: list[Record] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_conversation(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    if not found:
        raise ValueError(f"{path} has no conversations")
    train, held_out = split_held_out(found)
    return Records(path.stem, train, held_out, records.conversation)


def _conversation(line: bytes) -> Record:
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(record, dict) or "messages" not in record:
        raise ValueError('it is not an object with "messages"')
    checked = check_messages(record["messages"])
    if not any(role == "assistant" and parts for role, parts in checked):
        raise ValueError("it has no assistant message")
    return {"messages": record["messages"]}
