"""The card as plain values: all that is known of a model, and what is missing."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable

from nanochat.reporting.lineage import Lineage
from nanochat.reporting.missing_items import missing_scores, missing_stages, unfinished_stages
from nanochat.reporting.prompt_samples import generate_samples
from nanochat.reporting.published_scores import compare_with_published
from nanochat.reporting.schema import FORMAT, Compression, MissingItem, ReportCard, Sample, Score
from nanochat.reporting.scores import find_score
from nanochat.reporting.stage import describe_stage, iso_time, totals
from nanochat.reporting.tokenizer_compression import measure_compression
from nanochat.training.provenance import code, machine, versions


def make_report_card(
    life: Lineage,
    samples: bool = True,
    dollars_per_hour: float | None = None,
    program: str = "python cli.py",
    say: Callable[[str], object] = lambda line: None,
) -> ReportCard:
    """Everything about a model, in the form that :mod:`nanochat.reporting.schema` describes.

    Args:
        life: of the model.
        samples: whether its checkpoints write samples, which takes seconds for each.
        dollars_per_hour: what the machine costs; None if that is not known.
        program: how the user calls the command line.
        say: prints a line about what takes a while.
    """
    stages = [describe_stage(chapter, dollars_per_hour) for chapter in life.chapters]
    core: dict[str, Score] = {}
    chat: dict[str, Score] = {}
    whys: dict[tuple[str, str], str] = {}
    for chapter in life.chapters:
        for group, scores in (("core", core), ("chat", chat)):
            score, why = find_score(chapter.run, group)
            if score is not None:
                scores[chapter.label] = score
            elif why is not None:
                whys[group, chapter.label] = why
    missing = [
        *missing_stages(life, program),
        *unfinished_stages(stages, program),
        *missing_scores(stages, core, chat, whys, program),
    ]
    tokenizer = _tokenizer(life, program, missing, say)
    written = _samples(life, missing, say) if samples else []
    if not samples:
        again = f"{program} report --name={shlex.quote(str(life.chapters[-1].run.folder))}"  # there may be newer models
        missing.append({"what": "samples", "why": "they were left out", "command": again})
    sums, lacking = totals(stages)
    return {
        "format": FORMAT,
        "name": life.name,
        "written": iso_time(time.time()),
        "machine": machine(),
        "versions": versions(),
        "code": code(),
        "stages": stages,
        "totals": sums,
        "not_in_totals": lacking,
        "tokenizer": tokenizer,
        "core": core,
        "chat": chat,
        "samples": written,
        "published": compare_with_published(core, chat),
        "missing": missing,
    }


def _tokenizer(
    life: Lineage, program: str, missing: list[MissingItem], say: Callable[[str], object]
) -> Compression | None:
    """Of the last stage that has a checkpoint: all stages have the same one."""
    path = next((c.run.checkpoint for c in reversed(life.chapters) if c.run.checkpoint is not None), None)
    why = "there is no checkpoint to take it from"
    if path is not None:
        say("Measuring the tokenizer, beside GPT-2's and GPT-4's ...")
        try:
            found = measure_compression(path)
        except ValueError as error:
            why = str(error)
        else:
            if found["absent"]:
                command = f"{program} tokenizer evaluate --ckpt_path={shlex.quote(str(path.parent.parent))}"
                what = f"compression of {' and '.join(found['absent'])}"
                why = "not on this machine, and no network to fetch them by: with one, this fetches them"
                missing.append({"what": what, "why": why, "command": command})
            return found
    missing.append({"what": "tokenizer", "why": why, "command": None})
    return None


def _samples(life: Lineage, missing: list[MissingItem], say: Callable[[str], object]) -> list[Sample]:
    written: list[Sample] = []
    for chapter in life.chapters:
        path = chapter.run.checkpoint
        why = "there is no checkpoint to write them"
        if path is not None:
            say(f"{chapter.label} writes its samples ...")
            try:
                written += generate_samples(chapter.label, path)
                continue
            except ValueError as error:
                why = str(error)
        missing.append({"what": f"samples of {chapter.label}", "why": why, "command": None})
    return written
