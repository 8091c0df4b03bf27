"""The report card as JSON values: every known result of a model, and a list of the missing ones."""

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
    lineage: Lineage,
    samples: bool = True,
    dollars_per_hour: float | None = None,
    program: str = "python cli.py",
    say: Callable[[str], object] = lambda line: None,
) -> ReportCard:
    """The report card of a model, in the format of :mod:`nanochat.reporting.schema`.

    Args:
        lineage: of the model.
        samples: whether to generate samples from the checkpoints, which takes seconds for each.
        dollars_per_hour: the price of the machine; None if unknown.
        program: how the user calls the command line, for the suggested commands.
        say: prints a line of progress.
    """
    stages = [describe_stage(stage, dollars_per_hour) for stage in lineage.stages]
    core: dict[str, Score] = {}
    chat: dict[str, Score] = {}
    reasons: dict[tuple[str, str], str] = {}
    for stage in lineage.stages:
        for group, scores in (("core", core), ("chat", chat)):
            score, reason = find_score(stage.run, group)
            if score is not None:
                scores[stage.label] = score
            elif reason is not None:
                reasons[group, stage.label] = reason
    missing = [
        *missing_stages(lineage, program),
        *unfinished_stages(stages, program),
        *missing_scores(stages, core, chat, reasons, program),
    ]
    tokenizer = _tokenizer(lineage, program, missing, say)
    generated = _samples(lineage, missing, say) if samples else []
    if not samples:
        # by folder: a newer model may exist by the time the command is run
        command = f"{program} report --name={shlex.quote(str(lineage.stages[-1].run.folder))}"
        missing.append({"what": "samples", "why": "disabled with --samples=false", "command": command})
    sums, not_in_totals = totals(stages)
    return {
        "format": FORMAT,
        "name": lineage.name,
        "written": iso_time(time.time()),
        "machine": machine(),
        "versions": versions(),
        "code": code(),
        "stages": stages,
        "totals": sums,
        "not_in_totals": not_in_totals,
        "tokenizer": tokenizer,
        "core": core,
        "chat": chat,
        "samples": generated,
        "published": compare_with_published(core, chat),
        "missing": missing,
    }


def _tokenizer(
    lineage: Lineage, program: str, missing: list[MissingItem], say: Callable[[str], object]
) -> Compression | None:
    """The compression of the tokenizer, from the last stage that has a checkpoint: all stages share one tokenizer.

    Adds to ``missing`` what could not be measured.
    """
    checkpoints = (stage.run.checkpoint for stage in reversed(lineage.stages))
    path = next((checkpoint for checkpoint in checkpoints if checkpoint is not None), None)
    why = "there is no checkpoint"
    if path is not None:
        say("Measuring the tokenizer's compression, with GPT-2's and GPT-4's for comparison ...")
        try:
            measured = measure_compression(path)
        except ValueError as error:
            why = str(error)
        else:
            if measured["absent"]:
                command = f"{program} tokenizer evaluate --ckpt_path={shlex.quote(str(path.parent.parent))}"
                what = f"compression of {' and '.join(measured['absent'])}"
                why = "not on this machine and not downloadable: with network access, this command downloads them"
                missing.append({"what": what, "why": why, "command": command})
            return measured
    missing.append({"what": "tokenizer", "why": why, "command": None})
    return None


def _samples(lineage: Lineage, missing: list[MissingItem], say: Callable[[str], object]) -> list[Sample]:
    """The samples of all stages; adds to ``missing`` the stages without."""
    samples: list[Sample] = []
    for stage in lineage.stages:
        path = stage.run.checkpoint
        why = "there is no checkpoint"
        if path is not None:
            say(f"Generating samples of {stage.label} ...")
            try:
                samples += generate_samples(stage.label, path)
                continue
            except ValueError as error:
                why = str(error)
        missing.append({"what": f"samples of {stage.label}", "why": why, "command": None})
    return samples
