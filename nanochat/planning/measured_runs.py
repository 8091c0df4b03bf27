"""Finished runs that the law of scaling is fitted to: those that came with the project, and the user's own."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nanochat.optim.learning_rates import default_learning_rates, default_muon_every
from nanochat.planning.law import Scale, worth
from nanochat.runs import Run, find_runs

MEASURED = "measured.csv"  # benchmarks/scaling.py makes it; the last ones are other runs, whose commands it names
UNIQUE_BYTES = 0.95 * 22.2e6  # of the text that these runs learned from, less what is held out
RATE = "lr-MuonAdamW/matrices"  # the column of metrics.csv
RATE_TOLERANCE = 1.5  # a run whose rate was further from the rule's than this factor was another recipe


class MeasuredRun(NamedTuple):
    """A finished run.

    Attributes:
        size: what its score is taken to depend on.
        score: val/bpb on all of the held-out text.
        tokens: that it learned from.
    """

    size: Scale
    score: float
    tokens: int


def block_parameters(depth: int, width: int) -> int:
    """Numbers in the matrices of the blocks: 4 of width x width for attention, 8 for the MLP."""
    return 12 * depth * width**2


def bundled_runs() -> tuple[list[MeasuredRun], str]:
    """The runs that came with the project, and the fingerprint of the text that they learned from."""
    rows = list(csv.DictReader(files(__package__).joinpath(MEASURED).read_text(encoding="utf-8").splitlines()))
    points = [
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
    return points, rows[0]["corpus"]


def scale_of(
    parameters: float, seen: float, vocab_size: int, tokens_per_step: int, unique: float = UNIQUE_BYTES
) -> Scale:
    """What a score depends on, of a run that reads so many bytes of a text of so many different ones."""
    return Scale(parameters, worth(seen, unique), vocab_size, tokens_per_step)


def local_runs(root: str | Path, corpus: str) -> list[MeasuredRun]:
    """Of the user's finished runs those on the same text and with the same recipe, its learning rates among it.

    Args:
        root: the folder that lightning_logs is in.
        corpus: the fingerprint of the text.
    """
    return [point for run in find_runs(root) if (point := _point_of(run, corpus)) is not None]


def _point_of(run: Run, corpus: str) -> MeasuredRun | None:
    model, summary = run.config.get("model"), run.summary
    if not run.complete or run.stage != "pretrain" or not isinstance(model, dict):
        return None
    whole = run.config.get("data", {}).get("validate_all", True)
    other = model.get("ngrams", 1) > 1 or model.get("counted") or model.get("shallow")  # runs of version 0.1
    if summary.get("corpus_fingerprint") != corpus or not whole or other or summary.get("devices") != 1:
        return None
    try:
        return _read(run, model, summary)
    except (KeyError, TypeError, ValueError):  # written by another version
        return None


def _read(run: Run, model: dict[str, Any], summary: dict[str, Any]) -> MeasuredRun | None:
    data, tokens, steps = run.config["data"], int(summary["tokens"]), int(summary["steps"])
    depth = int(model["depth"])
    width = int(model.get("width") or 64 * depth)
    table = run.metrics()
    pairs = zip(table.get("train/loss", []), table.get("train/bpb", []), strict=True)
    bytes_per_token = [loss / math.log(2) / bpb for loss, bpb in pairs if loss > 0 and bpb > 0]  # NaN is neither
    if not bytes_per_token:
        return None
    text = tokens * sum(bytes_per_token) / len(bytes_per_token)
    step = round(tokens / steps)
    rule = default_learning_rates(width, step, steps, default_muon_every(step)).matrices
    rate = max((r for r in table.get(RATE, []) if r > 0), default=math.nan)
    if rule is None or not 1 / RATE_TOLERANCE < rate / rule < RATE_TOLERANCE:
        return None
    size = scale_of(block_parameters(depth, width), text, int(data["vocab_size"]), step)
    return MeasuredRun(size, float(summary["val_bpb"]), tokens)


def bytes_per_token(points: Iterable[MeasuredRun], vocab_size: int) -> float:
    """How many bytes a token stands for, by what was measured; between vocabularies along a line in their logarithm."""
    found: dict[int, list[float]] = defaultdict(list)
    for point in points:
        if point.size.text_bytes < UNIQUE_BYTES:  # else text that was read again counts less
            found[point.size.vocab_size].append(point.size.text_bytes / point.tokens)
    known = sorted(found)
    values = [sum(found[v]) / len(found[v]) for v in known]
    return float(np.interp(math.log(vocab_size), [math.log(v) for v in known], values))
