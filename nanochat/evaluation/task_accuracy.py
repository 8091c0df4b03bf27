"""Scores of tasks: the assistant is asked held-out questions, and each task checks the answers to its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.model import GPT
from nanochat.tasks.task import Item, Task
from nanochat.tokenizer import Tokenizer, render_prompt

AT_ONCE = 32  # questions that are answered together
MAX_TOKENS = 160  # of an answer


class Score(NamedTuple):
    """How many answers were right, of how many."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        return self.right / self.asked


def score_tasks(
    gpt: GPT, tokenizer: Tokenizer, tasks: Sequence[Task], items: int, max_tokens: int = MAX_TOKENS
) -> dict[str, Score]:
    """The scores of tasks on their held-out items, with the likeliest token taken each time.

    Args:
        gpt: the model.
        tokenizer: its tokenizer.
        tasks: those whose answers cannot be checked are left out.
        items: how many to ask of each task, or as many as it has.
        max_tokens: the longest answer.
    """
    engine = Engine(gpt, tokenizer)
    scores = {}
    for task in tasks:
        asked = [task.held_out(index) for index in range(min(items, task.held_out_count))] if task.scored else []
        if asked:
            answers = answer_all(engine, asked, max_tokens)
            right = sum(task.check(item, answer) for item, answer in zip(asked, answers, strict=True))
            scores[task.name] = Score(right, len(asked))
    return scores


def answer_all(engine: Engine, items: Sequence[Item], max_tokens: int = MAX_TOKENS) -> list[str]:
    """The assistant's answers to the items' questions; an answer that leaves no room for itself is empty."""
    answers = [""] * len(items)
    prompts = {index: render_prompt(engine.tokenizer, item.question) for index, item in enumerate(items)}
    # of similar lengths together, so that none waits long for another
    waiting = sorted((i for i in prompts if len(prompts[i]) < engine.context), key=lambda i: len(prompts[i]))
    for start in range(0, len(waiting), AT_ONCE):
        chosen = waiting[start : start + AT_ONCE]
        settings = Sampling(temperature=0.0, top_k=None)
        started = [engine.start(prompts[i], settings, max_tokens, seed=0)[0] for i in chosen]
        engine.run(started)
        for index, generation in zip(chosen, started, strict=True):
            answers[index] = generation.text
    return answers
