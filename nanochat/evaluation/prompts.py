"""A question of CORE as token sequences: solved examples, the question, and each answer that may follow."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nanochat.evaluation.bundle import CHOICE, LANGUAGE, SCHEMA, CoreTask
from nanochat.tokenizer import Tokenizer

EXAMPLES_BY = 1234  # nanochat's seed for the examples of the first line; that of line i is i more


class Candidate(NamedTuple):
    """A text whose end is judged: the tokens from ``start`` on, each by those before it.

    Attributes:
        ids: the tokens.
        start: at least 1, and below their number.
    """

    ids: list[int]
    start: int

    @property
    def end(self) -> list[int]:
        """The tokens that are judged."""
        return self.ids[self.start :]


class Question(NamedTuple):
    """Candidates of which one is right; or, in language modelling, the only one, to be reproduced.

    Attributes:
        candidates: in the order of the line.
        gold: the index of the right one.
        reproduce: whether the likeliest tokens must be those of the candidate's end.
    """

    candidates: list[Candidate]
    gold: int
    reproduce: bool


def questions(task: CoreTask, tokenizer: Tokenizer, context: int, indices: Sequence[int]) -> list[Question]:
    """The questions of some lines.

    Args:
        task: of the bundle.
        tokenizer: the model's.
        context: the longest sequence that the model reads; of longer ones the last tokens are kept.
        indices: of the task's lines.
    """
    return [question(task.kind, prompts(task, index), _gold(task, index), tokenizer, context) for index in indices]


def _gold(task: CoreTask, index: int) -> int:
    return 0 if task.kind == LANGUAGE else int(task.lines[index]["gold"])


def example_indices(index: int, lines: int, shots: int) -> list[int]:
    """Which other lines are the solved examples of a line, in their order."""
    # as sampling from a list of all lines but this one, without making that list for each line
    chosen = random.Random(EXAMPLES_BY + index).sample(range(lines - 1), min(shots, lines - 1))
    return [other + (other >= index) for other in chosen]


def prompts(task: CoreTask, index: int) -> list[str]:
    """The texts of a line with its examples: one for each choice; in language modelling without and with the end."""
    examples = [task.lines[other] for other in example_indices(index, len(task.lines), task.shots)]
    return render(task.kind, task.lines[index], examples, task.delimiter)


def render(kind: str, line: Mapping[str, Any], examples: Sequence[Mapping[str, Any]], delimiter: str) -> list[str]:
    """As :func:`prompts`, of a line by itself."""
    before = "".join(f"{_asked(kind, e)}{delimiter}{_right(kind, e)}\n\n" for e in examples)
    if kind == CHOICE:
        return [f"{before}{line['query']}{delimiter}{choice}" for choice in line["choices"]]
    if kind == SCHEMA:
        return [f"{before}{option}{delimiter}{line['continuation']}" for option in line["context_options"]]
    asked = f"{before}{_asked(kind, line)}{delimiter}"
    # a space at the end would be a token of its own, where it is part of the next word's token in the whole text
    return [asked.rstrip(), asked + line["continuation"]]


def _asked(kind: str, line: Mapping[str, Any]) -> str:
    if kind == SCHEMA:
        return str(line["context_options"][line["gold"]])
    return str(line["query"]) if kind == CHOICE else str(line["context"]).strip()


def _right(kind: str, line: Mapping[str, Any]) -> str:
    return str(line["choices"][line["gold"]]) if kind == CHOICE else str(line["continuation"])


def question(kind: str, texts: Sequence[str], gold: int, tokenizer: Tokenizer, context: int) -> Question:
    """A line's texts (:func:`prompts`) as tokens, and where the judging begins in each."""
    sequences = [[tokenizer.bos, *tokenizer.encode(text)] for text in texts]
    shortest = min(map(len, sequences))
    if kind == SCHEMA:
        same = common(*(sequence[::-1] for sequence in sequences))
        starts = [len(sequence) - same for sequence in sequences]
    else:
        # a choice that begins another one has nothing of its own, and is judged by its last token
        longest = shortest - 1 if kind == CHOICE else shortest
        starts = [min(common(*sequences), longest)] * len(sequences)
    if kind == LANGUAGE:
        sequences, starts = sequences[1:], starts[1:]
    return Question([cut(*pair, context) for pair in zip(sequences, starts, strict=True)], gold, kind == LANGUAGE)


def common(*sequences: Sequence[int]) -> int:
    """How many tokens all of them begin with."""
    count = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        count += 1
    return count


def cut(ids: list[int], start: int, context: int) -> Candidate:
    """The last tokens, as many as the model reads. At least one comes before those that are judged."""
    gone = max(0, len(ids) - context)
    return Candidate(ids[gone:], min(max(start - gone, 1), len(ids) - gone - 1))
