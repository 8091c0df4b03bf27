"""The chat tasks as a group of `evaluate`: one after the other, those that are finished kept, and the table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, cached_property
from pathlib import Path

import torch
from tqdm import tqdm

from nanochat.data.conversations.exam_questions import SOURCES, exam_records, has_exam
from nanochat.data.conversations.task_sources import open_tasks
from nanochat.evaluation.chat_core import CHAT_CORE, OFFLINE, SHOWN_K, ChatResult, ChatScore
from nanochat.evaluation.chat_evals import Exam, LetterExam, ProgramExam, gsm8k_exam, offline_exam, spelling_bee
from nanochat.evaluation.distributed import gather, rank, world_size
from nanochat.evaluation.evaluate_core import default_precision
from nanochat.evaluation.formatting import percents, wrapped
from nanochat.evaluation.groups import Asked, Report
from nanochat.evaluation.multiple_choice import MultipleChoice
from nanochat.evaluation.results_file import Finished, content_of, path_beside
from nanochat.evaluation.sandbox.run import require
from nanochat.evaluation.task_accuracy import MAX_TOKENS
from nanochat.inference.engine import Engine
from nanochat.options import at_least
from nanochat.tasks.task import Task
from nanochat.text_table import format_table

HEADER = ("task", "score", "chance", "centred", "95% CI", "items")
WORKED = 256  # tokens of an answer that is worked out, step by step
PROGRAM = 512  # tokens of a program
AT_ONCE = 512  # items that are marked between two looks at the clock
OFF = "it runs programs that the model wrote, in isolation; --allow_code_execution says that it may"


def evaluate(asked: Asked) -> Report:
    """Scores a model on the chat tasks.

    The options are "data", a folder with the tasks' files; "allow_code_execution"; "samples", programs for each
    question of HumanEval; "precision", "32" or "bf16"; "batch_tokens".

    Raises:
        ValueError: if a task that is asked for by name is not to be had, nothing is, or programs are to be run where
            they cannot be isolated.
    """
    at_least(1, max_per_task=asked.max_per_task, batch_tokens=asked.options.get("batch_tokens"))
    opener = Opener(asked)
    names = [name for name in (*CHAT_CORE, *OFFLINE) if not asked.tasks or name in asked.tasks]
    exams = opener.all_of(names)
    if not exams:
        raise ValueError("no task is left to score")
    precision = asked.options.get("precision") or default_precision(asked.gpt.device)
    conditions = {
        "model": content_of(asked.checkpoint),
        "max_per_task": asked.max_per_task,
        "precision": precision,
        "device": asked.gpt.device.type,
    }
    finished = Finished(path_beside(asked.checkpoint), "chat", conditions, {"checkpoint": asked.checkpoint.name})
    started = time.monotonic()
    results = _results(exams, asked, finished, precision)
    score = ChatScore(results, asked.max_per_task)
    facts = as_facts(score)
    if rank() == 0 and not asked.tasks:
        finished.close(facts)
    seconds = time.monotonic() - started
    return Report(as_table(score), {**facts, "seconds": seconds, "written": str(finished.path)})


class Opener:
    """Opens tasks; what several of them need is made once, and only if one does."""

    def __init__(self, asked: Asked) -> None:
        self.asked, self.most = asked, asked.max_per_task
        folder = asked.options.get("data")
        self.folder = Path(folder) if folder is not None else None
        self.samples = int(asked.options.get("samples", 1))
        at_least(1, samples=self.samples)
        self.allowed = bool(asked.options.get("allow_code_execution"))

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.asked.gpt, self.asked.tokenizer, build=self.asked.options.get("build", True))

    @cached_property
    def letters(self) -> MultipleChoice:
        batch_tokens = self.asked.options.get("batch_tokens")
        return MultipleChoice(self.asked.gpt, self.asked.tokenizer, batch_tokens)

    def all_of(self, names: list[str]) -> list[Exam]:
        """The tasks of these names. Of a whole group, those that are not to be had are left out, which is said."""
        exams = []
        for name in names:
            why = self._left_out(name)
            if why is None:
                try:
                    exams.append(self.open(name))
                    continue
                except ValueError as error:
                    if self.asked.tasks or self.folder is not None or name not in SOURCES:
                        raise
                    why = str(error)
            if self.asked.tasks:
                raise ValueError(f"{name}: {why}")
            if rank() == 0:
                self.asked.say("\n".join(wrapped(f"{name} is left out: {why}")))
        return exams

    def _left_out(self, name: str) -> str | None:
        """Why a task is not scored, before anything of it is opened; None if it is."""
        if name == "humaneval" and not self.allowed:
            return OFF
        if name in SOURCES and self.folder is not None and not has_exam(name, self.folder):
            return f"there are no files of it in {self.folder / name}"
        return None

    def rows(self, names: Sequence[str]) -> None:
        """Makes sure that these tasks' records are here and can be read, without asking any.

        Raises:
            ValueError: if not.
        """
        for name in names:
            if name in SOURCES:
                exam_records(name, self.folder)

    def open(self, name: str) -> Exam:
        """A task, ready to be asked."""
        if name == "humaneval":
            require()
        if name in SOURCES:
            rows = exam_records(name, self.folder)
            if not len(rows):
                raise ValueError(f"{name} has no questions")
            if name == "gsm8k":
                return gsm8k_exam(rows, self.most, self.engine, WORKED)
            if name == "humaneval":
                return ProgramExam(name, rows, self.most, self.engine, self.samples, PROGRAM)
            return LetterExam(name, rows, self.most, self.letters, self.asked.tokenizer)
        if name == "spelling-bee":
            return spelling_bee(_task("spelling"), self.most, self.engine, MAX_TOKENS)
        return offline_exam(_task(name), self.most, self.engine, MAX_TOKENS)


@cache
def _task(name: str) -> Task:
    return open_tasks([name])[0]


def _results(exams: list[Exam], asked: Asked, finished: Finished, precision: str) -> list[ChatResult]:
    contents = {exam.name: exam.fingerprint() for exam in exams}
    known = {name: facts for name, content in contents.items() if (facts := finished.known(name, content)) is not None}
    known = gather(known)[0]  # the first process' word: the others may not see its files
    if known:
        asked.say(f"{len(known)} of {len(exams)} tasks are finished already: {finished.path}")
    results = {name: ChatResult.from_facts(name, facts) for name, facts in known.items()}
    left = [exam for exam in exams if exam.name not in known]
    total = sum(len(exam.items) for exam in left)
    with tqdm(
        total=total, unit="item", dynamic_ncols=True, leave=False, file=sys.stderr, disable=rank() > 0 or not total
    ) as bar:
        for exam in left:
            bar.set_description(exam.name)
            results[exam.name] = result_of(exam, asked, precision, bar.update)
            if rank() == 0:
                finished.add(exam.name, contents[exam.name], results[exam.name].facts())
    return [results[exam.name] for exam in exams]


def result_of(exam: Exam, asked: Asked, precision: str, on_done: Callable[[int], object]) -> ChatResult:
    """Scores one task. Several processes deal its items out among themselves."""
    begin, apart = time.perf_counter(), world_size()
    mine = range(rank(), len(exam.items), apart)
    # the engine has a precision of its own
    lower = precision == "bf16" and isinstance(exam, LetterExam)
    device = asked.gpt.device.type
    with torch.autocast(device, torch.bfloat16) if lower else nullcontext():
        marks = exam.mark(mine, lambda done: on_done(done * apart))
    right = [0] * len(exam.items)
    for first, some in enumerate(gather(marks)):
        right[first::apart] = some
    too_long = exam.too_long(asked.tokenizer, asked.gpt.context)
    seconds = time.perf_counter() - begin
    return ChatResult(exam.name, exam.kind, exam.chance, tuple(right), exam.samples, too_long, seconds)


def as_facts(score: ChatScore) -> dict[str, object]:
    """The figure and the tasks, for a JSON file."""
    return {
        "name": score.label,
        "value": score.value,
        "interval": list(score.interval) if score.interval is not None else None,
        "missing": score.missing,
        "processes": world_size(),
        "tasks": {result.name: result.facts() for result in score.results},
    }


def as_table(score: ChatScore) -> str:
    """The tasks, a line each, and the figure."""
    lines = [format_table([HEADER, *(_row(result) for result in score.results)], right=range(1, len(HEADER)))]
    for result in score.results:
        if result.samples > 1:
            shown = ", ".join(f"pass@{k} {result.pass_at(k):.1%}" for k in SHOWN_K if k <= result.samples)
            lines.append(f"{result.name}: {shown}, of {result.samples} samples each")
        if result.too_long:
            lines.append(f"{result.name}: {result.too_long:,} questions are longer than the model's context")
    if score.value is not None and score.interval is not None:
        low, high = score.interval
        lines += ["", *wrapped(f"{score.label}: {score.value:.4f} (95% interval {low:.4f} to {high:.4f})")]
        if score.missing:
            verb = "is" if len(score.missing) == 1 else "are"
            lines += wrapped(f"It is not ChatCORE: {', '.join(score.missing)} {verb} missing.")
    return "\n".join(lines)


def _row(result: ChatResult) -> tuple[str, ...]:
    return (
        result.name,
        f"{result.accuracy:.1%}",
        f"{result.chance:.0%}",
        f"{result.centred:+.3f}" if result.name in CHAT_CORE else "beside it",
        percents(result.interval),
        f"{result.items:,}",
    )
