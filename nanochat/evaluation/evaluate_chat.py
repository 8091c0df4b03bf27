"""The "chat" group of `evaluate`: scores a model on the chat tasks and makes the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, cached_property
from pathlib import Path

import torch

from nanochat.data.conversations.exam_questions import SOURCES, exam_records, has_exam
from nanochat.data.conversations.task_sources import open_tasks
from nanochat.evaluation.chat_core import CHATCORE_TASKS, OFFLINE_TASKS, PASS_AT_K, ChatScore, ChatTaskScore
from nanochat.evaluation.chat_evals import (
    ChatEval,
    MultipleChoiceEval,
    ProgramEval,
    gsm8k_eval,
    offline_eval,
    spelling_bee_eval,
)
from nanochat.evaluation.distributed import all_gather, rank, world_size
from nanochat.evaluation.formatting import format_interval, wrap
from nanochat.evaluation.groups import EvaluationRequest, Report
from nanochat.evaluation.multiple_choice import MultipleChoice
from nanochat.evaluation.sandbox.run import require_isolation
from nanochat.evaluation.score_tasks import default_precision, open_results, score_tasks, summarize
from nanochat.evaluation.task_accuracy import MAX_TOKENS
from nanochat.inference.engine import Engine
from nanochat.options import at_least
from nanochat.tasks.task import Task
from nanochat.text_table import format_table

HEADER = ("task", "score", "chance", "centred", "95% CI", "items")
GSM8K_MAX_TOKENS = 256  # GSM8K answers are worked out step by step
HUMANEVAL_MAX_TOKENS = 512
CODE_EXECUTION_OFF = "it runs programs written by the model, in isolation; allow it with --allow_code_execution"


def evaluate(request: EvaluationRequest) -> Report:
    """Scores a model on the chat tasks.

    The options are "data", a folder with the tasks' files; "allow_code_execution"; "samples", programs for each
    question of HumanEval; "precision", "32" or "bf16"; and "batch_tokens".

    Raises:
        ValueError: if a task that is requested by name is not available, no task is, or programs cannot be isolated.
    """
    at_least(1, max_per_task=request.max_per_task, batch_tokens=request.options.get("batch_tokens"))
    names = [name for name in (*CHATCORE_TASKS, *OFFLINE_TASKS) if not request.tasks or name in request.tasks]
    evals = ChatEvalLoader(request).load_all(names)
    if not evals:
        raise ValueError("no task is available to score")
    precision = request.options.get("precision") or default_precision(request.gpt.device)
    results = open_results(request, "chat", precision)
    started = time.monotonic()
    scores = score_tasks(
        evals,
        {chat_eval.name: chat_eval.fingerprint() for chat_eval in evals},
        results,
        request.say,
        lambda chat_eval, on_done: run_eval(chat_eval, request, precision, on_done),
        ChatTaskScore.from_dict,
        lambda chat_eval: len(chat_eval.items),
    )
    chat_score = ChatScore(scores, request.max_per_task)
    summary = summarize(chat_score)
    if rank() == 0 and not request.tasks:
        results.add_summary(summary)
    seconds = time.monotonic() - started
    return Report(score_table(chat_score), {**summary, "seconds": seconds, "written": str(results.path)})


class ChatEvalLoader:
    """Loads the evaluations of chat tasks. They share one engine, made when the first of them needs it."""

    def __init__(self, request: EvaluationRequest) -> None:
        self.request = request
        folder = request.options.get("data")
        self.folder = Path(folder) if folder is not None else None
        self.samples = int(request.options.get("samples", 1))
        at_least(1, samples=self.samples)
        self.allow_code_execution = bool(request.options.get("allow_code_execution"))

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.request.gpt, self.request.tokenizer, build=self.request.options.get("build", True))

    @cached_property
    def letters(self) -> MultipleChoice:
        return MultipleChoice(self.request.gpt, self.request.tokenizer, self.request.options.get("batch_tokens"))

    def load_all(self, names: Sequence[str]) -> list[ChatEval]:
        """The evaluations of these tasks.

        If the whole group is requested, unavailable tasks are skipped with a message.

        Raises:
            ValueError: if a task is not available that was requested by name, or whose files in the folder are broken.
        """
        evals = []
        for name in names:
            reason = self._reason_to_skip(name)
            if reason is None:
                try:
                    evals.append(self.load(name))
                    continue
                except ValueError as error:
                    if self.request.tasks or self.folder is not None or name not in SOURCES:
                        raise
                    reason = str(error)
            if self.request.tasks:
                raise ValueError(f"{name}: {reason}")
            if rank() == 0:
                self.request.say("\n".join(wrap(f"{name} is skipped: {reason}")))
        return evals

    def _reason_to_skip(self, name: str) -> str | None:
        """Why a task cannot be scored, as far as can be told without loading it; None if it can."""
        if name == "humaneval" and not self.allow_code_execution:
            return CODE_EXECUTION_OFF
        if name in SOURCES and self.folder is not None and not has_exam(name, self.folder):
            return f"there are no files of it in {self.folder / name}"
        return None

    def check_data(self, names: Sequence[str]) -> None:
        """Downloads the tasks' questions if necessary and checks that they can be read.

        Raises:
            ValueError: if not.
        """
        for name in names:
            if name in SOURCES:
                exam_records(name, self.folder)

    def load(self, name: str) -> ChatEval:
        """The evaluation of a task.

        Raises:
            ValueError: if its questions cannot be read, or it needs isolated programs and they are not possible here.
        """
        max_items = self.request.max_per_task
        if name == "humaneval":
            require_isolation()
        if name in SOURCES:
            records = exam_records(name, self.folder)
            if not len(records):
                raise ValueError(f"{name} has no questions")
            if name == "gsm8k":
                return gsm8k_eval(records, max_items, self.engine, GSM8K_MAX_TOKENS)
            if name == "humaneval":
                return ProgramEval(name, records, max_items, self.engine, self.samples, HUMANEVAL_MAX_TOKENS)
            return MultipleChoiceEval(name, records, max_items, self.letters, self.request.tokenizer)
        if name == "spelling-bee":
            return spelling_bee_eval(_open_task("spelling"), max_items, self.engine, MAX_TOKENS)
        return offline_eval(_open_task(name), max_items, self.engine, MAX_TOKENS)


@cache
def _open_task(name: str) -> Task:
    return open_tasks([name])[0]


def run_eval(
    chat_eval: ChatEval, request: EvaluationRequest, precision: str, on_done: Callable[[int], object]
) -> ChatTaskScore:
    """Scores one task. Several processes divide its items among themselves; all of them must call it.

    Args:
        chat_eval: evaluation of the task.
        request: holds the model.
        precision: "32" or "bf16".
        on_done: called with the number of items newly finished, in all processes together.
    """
    started, processes = time.perf_counter(), world_size()
    indices = range(rank(), len(chat_eval.items), processes)
    # autocast is for the forward passes of multiple choice; the engine has a precision of its own
    use_bf16 = precision == "bf16" and isinstance(chat_eval, MultipleChoiceEval)
    device = request.gpt.device.type
    with torch.autocast(device, torch.bfloat16) if use_bf16 else nullcontext():
        counts = chat_eval.count_right(indices, lambda done: on_done(done * processes))
    right = [0] * len(chat_eval.items)
    for first, counts_of_rank in enumerate(all_gather(counts)):
        right[first::processes] = counts_of_rank
    too_long = chat_eval.count_too_long(request.tokenizer, request.gpt.context)
    seconds = time.perf_counter() - started
    return ChatTaskScore(
        chat_eval.name, chat_eval.kind, chat_eval.chance, tuple(right), chat_eval.samples, too_long, seconds
    )


def score_table(score: ChatScore) -> str:
    """A table with a line for each task, followed by pass@k, notes and ChatCORE."""
    lines = [format_table([HEADER, *map(_table_row, score.tasks)], right=range(1, len(HEADER)))]
    for task in score.tasks:
        if task.samples > 1:
            shown = ", ".join(f"pass@{k} {task.pass_at(k):.1%}" for k in PASS_AT_K if k <= task.samples)
            lines.append(f"{task.name}: {shown}, of {task.samples} samples each")
        if task.too_long:
            lines.append(f"{task.name}: {task.too_long:,} questions are longer than the model's context")
    if score.value is not None and score.interval is not None:
        low, high = score.interval
        lines += ["", *wrap(f"{score.label}: {score.value:.4f} (95% interval {low:.4f} to {high:.4f})")]
        if score.missing:
            mean = f"This is not ChatCORE, which is the mean of {len(CHATCORE_TASKS)} tasks"
            lines += wrap(f"{mean}. Missing: {', '.join(score.missing)}")
    return "\n".join(lines)


def _table_row(task: ChatTaskScore) -> tuple[str, ...]:
    return (
        task.name,
        f"{task.accuracy:.1%}",
        f"{task.chance:.0%}",
        f"{task.centred:+.3f}" if task.name in CHATCORE_TASKS else "excluded",
        format_interval(task.interval),
        f"{task.items:,}",
    )
