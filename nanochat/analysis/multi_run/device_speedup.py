"""The figure of the same training on a CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.multi_run.seed_groups import SEED_SETTINGS, training_settings
from nanochat.analysis.single_run.bars import grouped_bars

# Settings that may differ between two runs of the same training: how it is executed, and for how long.
EXECUTION_SETTINGS = {
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.precision",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.inference_mode",
    "model.compile",
    "data.batch_size",
    "plan.minutes",
    "checkpoint.every_n_minutes",
    "checkpoint.every_n_train_steps",
    *SEED_SETTINGS,
}


def is_gpu(history: History) -> bool | None:
    """Whether a run was on a GPU; None if not known."""
    device = history.run.summary.get("device")
    return None if not device else not str(device).startswith("CPU")


def cpu_gpu_pairs(histories: Sequence[History]) -> list[tuple[History, History]]:
    """For each training that was run on both, the fastest CPU run and the fastest GPU run."""
    same_training: dict[str, list[History]] = {}
    for history in histories:
        if history.run.summary.get("tokens_per_second") and is_gpu(history) is not None and history.run.config:
            settings = {n: v for n, v in training_settings(history).items() if n not in EXECUTION_SETTINGS}
            text = history.run.summary.get("corpus_fingerprint")
            key = repr((history.run.stage, text, sorted(settings.items(), key=str)))
            same_training.setdefault(key, []).append(history)
    found = []
    for members in same_training.values():
        cpu, gpu = ([h for h in members if is_gpu(h) is kind] for kind in (False, True))
        if cpu and gpu:
            found.append((max(cpu, key=_speed), max(gpu, key=_speed)))
    return found


def _speed(history: History) -> float:
    return float(history.run.summary["tokens_per_second"])


def speed_up(histories: Sequence[History]) -> Figure:
    """Tokens per second on both, their ratio, and the time to the same score."""
    pairs = cpu_gpu_pairs(histories)
    rows: list[list[Cell]] = []
    names, speeds = [], []
    for cpu, gpu in pairs:
        score, times = time_to_same_score(cpu, gpu)
        for history, seconds in zip((cpu, gpu), times, strict=True):
            names.append(f"{history.run.label} on {history.run.summary['device']}")
            speeds.append(_speed(history))
            precision, bpb = history.run.summary.get("precision"), history.bpb
            rows.append([names[-1], precision, _speed(history), _speed(history) / _speed(cpu), bpb, score, seconds])
    ratios = " and ".join(f"{_speed(gpu) / _speed(cpu):.1f}" for cpu, gpu in pairs)
    caption = (
        f"The same model and text; the GPU trains on {ratios} times as many tokens per second. The advantage of a GPU "
        "grows with the model: the smallest ones leave most of it idle. The table also lists the time that each needed "
        "to reach the same score on held-out text."
    )
    header = ["run", "precision", "speed (tokens/s)", "speed relative to the CPU", "bits per byte"]
    header += ["same score (bits per byte)", "time to reach it (s)"]
    return Figure(
        name="speed_up",
        title="The same training on a CPU and on a GPU",
        caption=caption,
        draw=lambda: grouped_bars(names, [("", speeds)], "speed (tokens/s)", "{:,.0f}"),
        table=Table(header, rows),
        section="Runs",
    )


def time_to_same_score(*histories: History) -> tuple[float | None, list[float | None]]:
    """The best val/bpb that all runs reached, and the seconds after which each reached it; None without validations."""
    curves = [history.curve("val/bpb", "seconds") for history in histories]
    if any(not len(curve.y) for curve in curves):
        return None, [None] * len(curves)
    score = max(float(curve.y.min()) for curve in curves)
    return score, [float(curve.x[int(np.argmax(curve.y <= score))]) for curve in curves]
