"""Rollouts: groups of answers sampled from the model, their rewards and advantages, and the tensors to train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nanochat.data.conversations.question_order import Question
from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling
from nanochat.model import IGNORE
from nanochat.tasks.task import seeded_rng
from nanochat.tokenizer import render_prompt

# The policy-gradient estimate needs samples of the model's own distribution: temperature 1 and no top-k.
ON_POLICY = Sampling(temperature=1.0, top_k=None)
# Micro-steps have few shapes, because oneDNN keeps buffers for every shape and memory grows with each new one: the
# length is padded to a multiple of LENGTH_MULTIPLE, the number of rows to a multiple of batch_size / ROW_COUNTS.
LENGTH_MULTIPLE, ROW_COUNTS = 16, 4


class Answer(NamedTuple):
    """An answer that the model generated.

    Attributes:
        ids: the question, the answer, and the token that ended it.
        sampled: for each id, whether the model sampled it; False for the question and the calculator's output.
        reward: 1 if the answer is correct, else 0.
    """

    ids: list[int]
    sampled: list[bool]
    reward: float

    @property
    def tokens(self) -> int:
        """Number of tokens that the model sampled."""
        return sum(self.sampled)


Group = list[Answer]  # the answers to one question


def generate_groups(
    engine: Engine, questions: Sequence[Question], samples: int, max_tokens: int, seed: int, batch_size: int
) -> list[Group]:
    """A group of answers to each question, without the questions that leave no room for an answer in the context.

    Answers depend on the model, the seed and the question's place, not on the batch size.

    Args:
        engine: with the current weights.
        questions: to answer.
        samples: answers to each.
        max_tokens: longest answer.
        seed: of the run.
        batch_size: number of answers that are generated together, rounded down to whole groups, at least one.
    """
    groups: list[Group] = []
    questions_per_batch = max(1, batch_size // samples)
    for start in range(0, len(questions), questions_per_batch):
        started: list[tuple[Question, list[int], list[Generation]]] = []
        for question in questions[start : start + questions_per_batch]:
            prompt = render_prompt(engine.tokenizer, question.item.question)
            if len(prompt) < engine.context:
                own_seed = seeded_rng("answers", seed, question.place).getrandbits(62)
                started.append((question, prompt, engine.start(prompt, ON_POLICY, max_tokens, own_seed, count=samples)))
        engine.run([generation for _, _, group in started for generation in group])
        groups += [[to_answer(question, prompt, one) for one in group] for question, prompt, group in started]
    return groups


def to_answer(question: Question, prompt: Sequence[int], generation: Generation) -> Answer:
    """The answer of a finished generation. The token that ended it was sampled too; without one the reward is 0."""
    ids, sampled = [*prompt, *generation.tokens], [*(False for _ in prompt), *generation.chosen]
    if generation.end is not None:
        ids.append(generation.end)
        sampled.append(True)
    correct = generation.end is not None and question.task.check(question.item, generation.text)
    return Answer(ids, sampled, float(correct))


def advantages(rewards: Sequence[float]) -> list[float]:
    """Each reward minus the mean reward of its group.

    The mean is the baseline of REINFORCE (Williams 1992): it leaves the expected gradient unchanged up to a factor and
    removes most of its variance. There is no division by the standard deviation, as in GRPO (arXiv 2402.03300): it
    gives more weight to questions that are answered nearly always or hardly ever (arXiv 2503.20783).
    """
    mean = sum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


class Row(NamedTuple):
    """An answer to train on, with its advantage."""

    answer: Answer
    advantage: float


def rows_with_signal(groups: Sequence[Group]) -> list[Row]:
    """The answers whose advantage is not 0, the longest first. A group with equal rewards has a gradient of zero."""
    rows = []
    for group in groups:
        values = advantages([answer.reward for answer in group])
        rows += [Row(*pair) for pair in zip(group, values, strict=True) if pair[1]]
    return sorted(rows, key=lambda row: -len(row.answer.ids))


def to_tensors(rows: Sequence[Row], fill: int, context: int, batch_size: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Rows as ids, targets and loss weights, all (rows, time).

    Args:
        rows: any number of them; none gives one row without targets.
        fill: the id that pads short rows.
        context: longest sequence that the model can read.
        batch_size: rows of a full micro-step. Rows without targets pad the number to a multiple of a quarter of it.

    Returns:
        Targets are ``IGNORE`` and weights 0 wherever the model did not sample the next token. The time is a multiple
        of LENGTH_MULTIPLE, or the context.
    """
    time = max((len(row.answer.ids) for row in rows), default=2) - 1
    time = min(time + -time % LENGTH_MULTIPLE, context)
    multiple = -(-batch_size // ROW_COUNTS)
    ids = torch.full((len(rows) + -len(rows) % multiple or 1, time), fill)
    targets = torch.full_like(ids, IGNORE)
    weights = torch.zeros(ids.shape)
    for number, (answer, advantage) in enumerate(rows):
        length = len(answer.ids) - 1
        ids[number, :length] = torch.tensor(answer.ids[:-1])
        sampled = torch.tensor(answer.sampled[1:])
        targets[number, :length] = torch.tensor(answer.ids[1:]).masked_fill(~sampled, IGNORE)
        weights[number, :length] = advantage * sampled
    return ids, targets, weights


def number_of_shapes(batch_size: int, row_length: int) -> int:
    """Upper limit of the number of shapes that :func:`to_tensors` returns for rows up to a length."""
    return min(batch_size, ROW_COUNTS) * -(-row_length // LENGTH_MULTIPLE)
