"""Builds the token sequences of a CORE question: solved examples, the question, and each possible answer."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nanochat.evaluation.bundle import CHOICE, LANGUAGE, SCHEMA, CoreTask
from nanochat.tokenizer import Tokenizer

FEWSHOT_SEED = 1234  # nanochat's seed for drawing solved examples: line i uses FEWSHOT_SEED + i


class Candidate(NamedTuple):
    """A token sequence of which the part from ``start`` on is scored: the loss of each token given all before it.

    Attributes:
        ids: the tokens.
        start: index of the first scored token, 1 <= start < len(ids).
    """

    ids: list[int]
    start: int

    @property
    def end(self) -> list[int]:
        """The scored tokens."""
        return self.ids[self.start :]


class Question(NamedTuple):
    """A question with its candidate answers.

    Attributes:
        candidates: in the order of the line; a single one in language modelling.
        gold: index of the right candidate.
        reproduce: language modelling: right if each scored token of the candidate is the model's most likely token.
            Otherwise the question is right if the candidate with the lowest mean loss is the gold one.
    """

    candidates: list[Candidate]
    gold: int
    reproduce: bool


def questions(task: CoreTask, tokenizer: Tokenizer, context: int, indices: Sequence[int]) -> list[Question]:
    """The questions of the given lines.

    Args:
        task: task of a bundle.
        tokenizer: the model's tokenizer.
        context: maximum length of a sequence; longer ones are truncated to their last tokens.
        indices: indices of the task's lines.
    """
    return [question(task.kind, prompts(task, index), _gold(task, index), tokenizer, context) for index in indices]


def _gold(task: CoreTask, index: int) -> int:
    return 0 if task.kind == LANGUAGE else int(task.lines[index]["gold"])


def example_indices(index: int, lines: int, shots: int) -> list[int]:
    """Indices of the lines that are the solved examples of line ``index``, in their order."""
    # equivalent to sampling from a list of all other lines, without making that list
    chosen = random.Random(FEWSHOT_SEED + index).sample(range(lines - 1), min(shots, lines - 1))
    return [other + (other >= index) for other in chosen]


def prompts(task: CoreTask, index: int) -> list[str]:
    """The texts of a line with its solved examples, as returned by :func:`render`."""
    examples = [task.lines[other] for other in example_indices(index, len(task.lines), task.shots)]
    return render(task.kind, task.lines[index], examples, task.delimiter)


def render(kind: str, line: Mapping[str, Any], examples: Sequence[Mapping[str, Any]], delimiter: str) -> list[str]:
    """The texts of a line.

    Args:
        kind: one of :data:`nanochat.evaluation.bundle.FIELDS`.
        line: the line.
        examples: lines that come before it as solved examples.
        delimiter: text between a question and its answer.

    Returns:
        A text for each choice or context option; in language modelling the prompt without and with the continuation.
    """
    before = "".join(f"{_example_question(kind, e)}{delimiter}{_example_answer(kind, e)}\n\n" for e in examples)
    if kind == CHOICE:
        return [f"{before}{line['query']}{delimiter}{choice}" for choice in line["choices"]]
    if kind == SCHEMA:
        return [f"{before}{option}{delimiter}{line['continuation']}" for option in line["context_options"]]
    prompt = f"{before}{_example_question(kind, line)}{delimiter}"
    # a space at the end would be a token of its own, but in the whole text it is part of the next word's token
    return [prompt.rstrip(), prompt + line["continuation"]]


def _example_question(kind: str, line: Mapping[str, Any]) -> str:
    if kind == SCHEMA:
        return str(line["context_options"][line["gold"]])
    return str(line["query"]) if kind == CHOICE else str(line["context"]).strip()


def _example_answer(kind: str, line: Mapping[str, Any]) -> str:
    return str(line["choices"][line["gold"]]) if kind == CHOICE else str(line["continuation"])


def question(kind: str, texts: Sequence[str], gold: int, tokenizer: Tokenizer, context: int) -> Question:
    """Tokenizes the texts of a line (:func:`render`) and finds the first scored token of each."""
    sequences = [[tokenizer.bos, *tokenizer.encode(text)] for text in texts]
    shortest = min(map(len, sequences))
    if kind == SCHEMA:
        same = common(*(sequence[::-1] for sequence in sequences))
        starts = [len(sequence) - same for sequence in sequences]
    else:
        # a choice that is a prefix of another one has no tokens of its own; its last token is scored
        longest = shortest - 1 if kind == CHOICE else shortest
        starts = [min(common(*sequences), longest)] * len(sequences)
    if kind == LANGUAGE:
        sequences, starts = sequences[1:], starts[1:]
    return Question([truncate(*pair, context) for pair in zip(sequences, starts, strict=True)], gold, kind == LANGUAGE)


def common(*sequences: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    count = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        count += 1
    return count


def truncate(ids: list[int], start: int, context: int) -> Candidate:
    """Keeps the last ``context`` tokens. At least one token remains before the scored ones."""
    removed = max(0, len(ids) - context)
    return Candidate(ids[removed:], min(max(start - removed, 1), len(ids) - removed - 1))
