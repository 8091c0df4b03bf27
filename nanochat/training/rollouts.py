"""Answers that a model writes to learn from: drawn in groups, rewarded, and turned into rows with a weight a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nanochat.data.conversations.question_order import Question
from nanochat.evaluation.humaneval import pass_at_k
from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling
from nanochat.model import IGNORE
from nanochat.tasks.task import seeded_rng
from nanochat.tokenizer import render_prompt

# Drawn as the model says: only of what was drawn from its own distribution is the gradient that of the mean reward.
ON_POLICY = Sampling(temperature=1.0, top_k=None)
# Micro-steps come in few sizes: rows are padded to a multiple of so many tokens, and their number to a multiple of one
# part in so many of the batch. Of each new size oneDNN keeps what it has made for it, and memory grows with every one.
LENGTHS, COUNTS = 16, 4


class Answer(NamedTuple):
    """One that the model wrote.

    Attributes:
        ids: the question and the answer, with what ended it.
        chosen: of each id, whether the model chose it: not the question's, and not the calculator's results.
        reward: 1 if it is right, else 0.
    """

    ids: list[int]
    chosen: list[bool]
    reward: float

    @property
    def tokens(self) -> int:
        """Those that the model chose."""
        return sum(self.chosen)


Group = list[Answer]  # to one question


def write_groups(
    engine: Engine, questions: Sequence[Question], samples: int, max_tokens: int, seed: int, at_once: int
) -> list[Group]:
    """The model's answers to questions, in groups; a question that leaves no room for an answer has none.

    What is written depends on the model, the seed and the question's place, not on how many are written together.

    Args:
        engine: with the weights of now.
        questions: to be answered.
        samples: answers to each.
        max_tokens: the longest answer.
        seed: of the run.
        at_once: answers that are written together, about.
    """
    groups: list[Group] = []
    each = max(1, at_once // samples)
    for start in range(0, len(questions), each):
        begun: list[tuple[Question, list[int], list[Generation]]] = []
        for question in questions[start : start + each]:
            prompt = render_prompt(engine.tokenizer, question.item.question)
            if len(prompt) < engine.context:
                own = seeded_rng("answers", seed, question.place).getrandbits(62)
                begun.append((question, prompt, engine.start(prompt, ON_POLICY, max_tokens, own, count=samples)))
        engine.run([generation for _, _, group in begun for generation in group])
        groups += [[to_answer(question, prompt, one) for one in group] for question, prompt, group in begun]
    return groups


def to_answer(question: Question, prompt: Sequence[int], generation: Generation) -> Answer:
    """What came of a generation. The token by which the model ended its answer is one that it chose as well."""
    ids, chosen = [*prompt, *generation.tokens], [*(False for _ in prompt), *generation.chosen]
    if generation.end is not None:
        ids.append(generation.end)
        chosen.append(True)
    right = generation.end is not None and question.task.check(question.item, generation.text)
    return Answer(ids, chosen, float(right))


def advantages(rewards: Sequence[float]) -> list[float]:
    """Each reward minus the mean of its group: what says whether an answer was better than the others.

    The mean is the baseline of REINFORCE (Williams 1992), which leaves the gradient's expectation as it is up to a
    factor, and takes away most of its variance. It is not divided by the standard deviation, as GRPO would
    (arXiv 2402.03300): that weighs questions that are nearly always or hardly ever answered more (arXiv 2503.20783).
    """
    mean = sum(rewards) / len(rewards)
    return [reward - mean for reward in rewards]


class Row(NamedTuple):
    """An answer to learn from, with its advantage."""

    answer: Answer
    advantage: float


def rows_with_signal(groups: Sequence[Group]) -> list[Row]:
    """The answers of groups that say something, the longest first; a group that agrees has a gradient of zero."""
    rows = []
    for group in groups:
        found = advantages([answer.reward for answer in group])
        rows += [Row(*pair) for pair in zip(group, found, strict=True) if pair[1]]
    return sorted(rows, key=lambda row: -len(row.answer.ids))


def to_tensors(rows: Sequence[Row], fill: int, context: int, batch_size: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Rows as ids, targets and the weights of their losses, all (rows, time).

    Args:
        rows: any number; of none, a row is made that asks for nothing.
        fill: the id behind the end of short rows.
        context: the most tokens that the model reads.
        batch_size: rows of a full micro-step. Of fewer, rows that ask for nothing make it so many quarters of one.

    Returns:
        Targets are ``IGNORE``, and weights 0, wherever the model did not choose the next token. The time is a multiple
        of LENGTHS, or the context.
    """
    time = max((len(row.answer.ids) for row in rows), default=2) - 1
    time = min(time + -time % LENGTHS, context)
    quarter = -(-batch_size // COUNTS)
    ids = torch.full((len(rows) + -len(rows) % quarter or 1, time), fill)
    targets = torch.full_like(ids, IGNORE)
    weights = torch.zeros(ids.shape)
    for number, (answer, advantage) in enumerate(rows):
        length = len(answer.ids) - 1
        ids[number, :length] = torch.tensor(answer.ids[:-1])
        chosen = torch.tensor(answer.chosen[1:])
        targets[number, :length] = torch.tensor(answer.ids[1:]).masked_fill(~chosen, IGNORE)
        weights[number, :length] = advantage * chosen
    return ids, targets, weights


def number_of_sizes(batch_size: int, row_length: int) -> int:
    """How many sizes :func:`to_tensors` may make of rows up to a length, at most."""
    return min(batch_size, COUNTS) * -(-row_length // LENGTHS)


def shown_k(samples: int) -> list[int]:
    """The k of which pass@k is shown: 1, all samples of a group, and the powers of two between them."""
    return sorted({1, samples, *(2**power for power in range(1, samples.bit_length()) if 2**power < samples)})


def tally(groups: Sequence[Group], samples: int) -> dict[str, float]:
    """Sums over groups, which add up over steps and processes; :func:`averages` makes curves of them.

    pass@k of a group is estimated without bias by :func:`~nanochat.evaluation.humaneval.pass_at_k` (arXiv 2107.03374).
    """
    rewards = [[answer.reward for answer in group] for group in groups]
    right = [sum(reward > 0 for reward in group) for group in rewards]
    return {
        "groups": float(len(groups)),
        "reward": sum(sum(group) / len(group) for group in rewards),
        "answer_tokens": sum(sum(answer.tokens for answer in group) / len(group) for group in groups),
        "no_signal": float(sum(len(set(group)) == 1 for group in rewards)),
        **{f"pass_at_{k}": sum(pass_at_k(samples, count, k) for count in right) for k in shown_k(samples)},
    }


def averages(sums: dict[str, float]) -> dict[str, float]:
    """The mean over groups of what :func:`tally` has summed up."""
    groups = max(1.0, sums["groups"])
    return {name: value / groups for name, value in sums.items() if name != "groups"}
