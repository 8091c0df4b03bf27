"""Finished runs that the scaling law is fitted to: those in ``measured.csv``, and the user's own."""

from __future__ import annotations

import csv
import inspect
import math
from collections import defaultdict
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nanochat.optim.learning_rates import default_learning_rates, default_muon_every
from nanochat.planning.candidates import block_parameters
from nanochat.planning.law import Scale, effective_bytes
from nanochat.runs import Run, find_runs
from nanochat.training.language_model import LanguageModel

MEASURED = "measured.csv"  # written by benchmarks/scaling.py; each row has the command of its run
UNIQUE_BYTES = 0.95 * 22.2e6  # the embedded corpus without its held-out part
RATE_COLUMN = "lr-MuonAdamW/matrices"  # in metrics.csv
RATE_TOLERANCE = 1.5  # runs whose learning rate differs from the default by more than this factor are excluded


class MeasuredRun(NamedTuple):
    """A finished run.

    Attributes:
        scale: the quantities that its score depends on.
        score: val/bpb on all held-out text.
        tokens: number of training tokens.
    """

    scale: Scale
    score: float
    tokens: int


def bundled_runs() -> tuple[list[MeasuredRun], str]:
    """The runs in ``measured.csv``, and the fingerprint of their corpus."""
    rows = list(csv.DictReader(files(__package__).joinpath(MEASURED).read_text(encoding="utf-8").splitlines()))
    runs = [
        MeasuredRun(
            scale_of(
                block_parameters(int(row["depth"]), int(row["width"])),
                float(row["bytes"]),
                int(row["vocab_size"]),
                int(row["tokens_per_step"]),
            ),
            float(row["val_bpb"]),
            int(row["tokens"]),
        )
        for row in rows
    ]
    return runs, rows[0]["corpus"]


def bundled_runs_have_ngrams() -> bool:
    """Whether the bundled runs are of version 0.1.0, whose n-gram vectors gave lower scores than the present model."""
    header = files(__package__).joinpath(MEASURED).read_text(encoding="utf-8").partition("\n")[0]
    return "ngram_slots" in header.split(",")


def scale_of(
    parameters: float, seen: float, vocab_size: int, tokens_per_step: int, unique: float = UNIQUE_BYTES
) -> Scale:
    """The scale of a run that reads ``seen`` bytes of a corpus of ``unique`` bytes."""
    return Scale(parameters, effective_bytes(seen, unique), vocab_size, tokens_per_step)


def local_runs(root: str | Path, corpus: str) -> list[MeasuredRun]:
    """The user's finished pretraining runs on the same corpus with the same recipe.

    Args:
        root: the folder that contains lightning_logs.
        corpus: fingerprint of the corpus.
    """
    return [measured for run in find_runs(root) if (measured := _measured(run, corpus)) is not None]


def _measured(run: Run, corpus: str) -> MeasuredRun | None:
    """The run with its scale and score; None if it is not comparable."""
    model, summary = run.config.get("model"), run.summary
    if not run.complete or run.stage != "pretrain" or not isinstance(model, dict):
        return None
    if model.keys() - inspect.signature(LanguageModel).parameters.keys():  # options of another version: another model
        return None
    fully_scored = run.config.get("data", {}).get("validate_all", True)
    if summary.get("corpus_fingerprint") != corpus or not fully_scored or summary.get("devices") != 1:
        return None
    try:
        return _read(run, model, summary)
    except (KeyError, TypeError, ValueError):  # files of another version
        return None


def _read(run: Run, model: dict[str, Any], summary: dict[str, Any]) -> MeasuredRun | None:
    data, tokens, steps = run.config["data"], int(summary["tokens"]), int(summary["steps"])
    depth = int(model["depth"])
    width = int(model.get("width") or 64 * depth)
    metrics = run.metrics()
    pairs = zip(metrics.get("train/loss", []), metrics.get("train/bpb", []), strict=True)
    # nats per token and bits per byte give bytes per token; the comparison also drops NaN
    ratios = [loss / math.log(2) / bpb for loss, bpb in pairs if loss > 0 and bpb > 0]
    if not ratios:
        return None
    seen = tokens * sum(ratios) / len(ratios)
    tokens_per_step = round(tokens / steps)
    muon_every = default_muon_every(tokens_per_step)
    default = default_learning_rates(width, tokens_per_step, steps, muon_every).matrices
    rate = max((r for r in metrics.get(RATE_COLUMN, []) if r > 0), default=math.nan)
    if default is None or not 1 / RATE_TOLERANCE < rate / default < RATE_TOLERANCE:
        return None
    scale = scale_of(block_parameters(depth, width), seen, int(data["vocab_size"]), tokens_per_step)
    return MeasuredRun(scale, float(summary["val_bpb"]), tokens)


def bytes_per_token(runs: Iterable[MeasuredRun], vocab_size: int) -> float:
    """Mean bytes per token for a vocabulary, interpolated linearly in the logarithm of its size."""
    ratios: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        if run.scale.text_bytes < UNIQUE_BYTES:  # beyond it, text_bytes is less than the bytes read
            ratios[run.scale.vocab_size].append(run.scale.text_bytes / run.tokens)
    known = sorted(ratios)
    means = [sum(ratios[v]) / len(ratios[v]) for v in known]
    return float(np.interp(math.log(vocab_size), [math.log(v) for v in known], means))
