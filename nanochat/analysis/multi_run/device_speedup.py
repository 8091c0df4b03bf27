"""The same training on a CPU and on a GPU: what the GPU buys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.multi_run.seed_groups import SEED_SETTINGS, training_settings
from nanochat.analysis.single_run.bars import grouped_bars

# What may differ between two runs of the same training: how it is carried out, and for how long.
CARRIED_OUT = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "precision",
    "max_steps",
    "max_time",
    "inference_mode",
)
MAY_DIFFER = {
    *(f"trainer.{name}" for name in CARRIED_OUT),
    *SEED_SETTINGS,
    "model.compile",
    "data.batch_size",
    "plan.minutes",
}
MAY_DIFFER |= {"checkpoint.every_n_minutes", "checkpoint.every_n_train_steps"}


def is_gpu(history: History) -> bool | None:
    """Whether a run was on a GPU; None if that is not known."""
    device = history.run.summary.get("device")
    return None if not device else not str(device).startswith("CPU")


def cpu_gpu_pairs(histories: Sequence[History]) -> list[tuple[History, History]]:
    """Each training that was done on both, with its fastest run on a CPU and its fastest on a GPU."""
    alike: dict[str, list[History]] = {}
    for history in histories:
        if history.run.summary.get("tokens_per_second") and is_gpu(history) is not None and history.run.config:
            same = {name: value for name, value in training_settings(history).items() if name not in MAY_DIFFER}
            text = history.run.summary.get("corpus_fingerprint")
            alike.setdefault(repr((history.run.stage, text, sorted(same.items(), key=str))), []).append(history)
    found = []
    for members in alike.values():
        cpu, gpu = ([h for h in members if is_gpu(h) is kind] for kind in (False, True))
        if cpu and gpu:
            found.append((max(cpu, key=_speed), max(gpu, key=_speed)))
    return found


def _speed(history: History) -> float:
    return float(history.run.summary["tokens_per_second"])


def speed_up(histories: Sequence[History]) -> Figure:
    """Tokens a second side by side, how many times as fast, and how soon each reached the same score."""
    found = cpu_gpu_pairs(histories)
    rows: list[list[Cell]] = []
    names, speeds = [], []
    for cpu, gpu in found:
        score, times = time_to_same_score(cpu, gpu)
        for history, seconds in ((cpu, times[0]), (gpu, times[1])):
            names.append(f"{history.run.label} on {history.run.summary['device']}")
            speeds.append(_speed(history))
            precision, bpb = history.run.summary.get("precision"), history.bpb
            rows.append([names[-1], precision, _speed(history), _speed(history) / _speed(cpu), bpb, score, seconds])
    ratios = " and ".join(f"{_speed(gpu) / _speed(cpu):.1f}" for cpu, gpu in found)
    caption = (
        f"The same model and text; the GPU learned from {ratios} times as many tokens in a second. A GPU's lead grows "
        "with the model: the smallest ones leave most of it idle. The table also says how soon each came to the same "
        "score on held-out text."
    )
    header = ["run", "precision", "speed (tokens/s)", "times as fast as the CPU", "bits per byte"]
    header += ["the same score (bits per byte)", "time to reach it (s)"]
    return Figure(
        name="speed_up",
        title="The same training on a CPU and on a GPU",
        caption=caption,
        draw=lambda: grouped_bars(names, [("", speeds)], "speed (tokens/s)", "{:,.0f}"),
        table=Table(header, rows),
        section="The runs",
    )


def time_to_same_score(*histories: History) -> tuple[float | None, list[float | None]]:
    """The best score on held-out text, taken on the way, that all have reached, and after how many seconds each did."""
    curves = [history.curve("val/bpb", "seconds") for history in histories]
    if any(not len(curve.y) for curve in curves):
        return None, [None] * len(curves)
    score = max(float(curve.y.min()) for curve in curves)
    return score, [float(curve.x[int(np.argmax(curve.y <= score))]) for curve in curves]
