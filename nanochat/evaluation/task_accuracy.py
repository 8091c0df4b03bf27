"""Accuracy of a chat model on the held-out questions of fine-tuning tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.model import GPT
from nanochat.tasks.task import Item, Task
from nanochat.tokenizer import Tokenizer, render_prompt

BATCH_SIZE = 32  # questions that are answered together
MAX_TOKENS = 160  # of an answer


class TaskAccuracy(NamedTuple):
    """Number of right answers and number of questions."""

    right: int
    items: int

    @property
    def accuracy(self) -> float:
        return self.right / self.items


def measure_accuracy(
    gpt: GPT, tokenizer: Tokenizer, tasks: Sequence[Task], items: int, max_tokens: int = MAX_TOKENS
) -> dict[str, TaskAccuracy]:
    """Accuracy of greedy answers to the tasks' held-out questions, by task name.

    Args:
        gpt: the model.
        tokenizer: its tokenizer.
        tasks: tasks to score; those whose answers cannot be checked are skipped.
        items: maximum number of questions per task.
        max_tokens: maximum length of an answer.
    """
    engine = Engine(gpt, tokenizer)
    scores = {}
    for task in tasks:
        questions = [task.held_out(index) for index in range(min(items, task.held_out_count))] if task.scored else []
        if questions:
            answers = generate_answers(engine, questions, max_tokens)
            right = sum(task.check(item, answer) for item, answer in zip(questions, answers, strict=True))
            scores[task.name] = TaskAccuracy(right, len(questions))
    return scores


def generate_answers(engine: Engine, items: Sequence[Item], max_tokens: int = MAX_TOKENS) -> list[str]:
    """Greedy answers to the items' questions. A question that fills the context gets an empty answer."""
    answers = [""] * len(items)
    prompts = {index: render_prompt(engine.tokenizer, item.question) for index, item in enumerate(items)}
    # batches of similar lengths, so that short prompts do not wait for long ones
    waiting = sorted((i for i in prompts if len(prompts[i]) < engine.context), key=lambda i: len(prompts[i]))
    for start in range(0, len(waiting), BATCH_SIZE):
        batch = waiting[start : start + BATCH_SIZE]
        sampling = Sampling(temperature=0.0, top_k=None)
        generations = [engine.start(prompts[i], sampling, max_tokens, seed=0)[0] for i in batch]
        engine.run(generations)
        for index, generation in zip(batch, generations, strict=True):
            answers[index] = generation.text
    return answers
