"""Run folders with given curves, in the format that training writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "seed_everything": 1,
    "trainer": {"accelerator": "cpu", "precision": "32-true", "max_steps": 100, "log_every_n_steps": 1},
    "model": {"depth": 2, "width": 64, "heads": None, "kv_heads": None, "matrix_lr": None},
    "data": {"corpus": "embedded", "vocab_size": 300, "context": 64, "row_length": None, "batch_size": 2, "seed": 1},
    "name": "run",
}
SUMMARY: dict[str, Any] = {
    "val_bpb": 1.5,
    "seconds": 60.0,
    "training_seconds": 50.0,
    "steps": 100,
    "tokens": 12_800,
    "tokens_per_second": 256.0,
    "data_wait": 0.1,
    "flops_per_token": 1000,
    "peak_memory_bytes": 700_000_000,
    "corpus_fingerprint": "aaaa",
    "device": "CPU (2 threads of 2)",
    "devices": 1,
    "precision": "32-true",
    "complete": True,
}


def changed(config: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A copy of the configuration with the given settings, such as ``{"model.depth": 3}``."""
    copy = json.loads(json.dumps(config))
    for name, value in settings.items():
        *sections, key = name.split(".")
        section = copy
        for part in sections:
            section = section[part]
        section[key] = value
    return dict(copy)


def write_run(
    root: Path,
    name: str = "run",
    version: int = 0,
    summary: dict[str, Any] | None = None,
    curves: dict[str, dict[int, float]] | None = None,
    **settings: Any,
) -> Path:
    """Writes the files of a run; returns its folder.

    Args:
        root: the folder that contains lightning_logs.
        name: the run's name.
        version: its version number.
        summary: changes to :data:`SUMMARY`; {} omits summary.json.
        curves: values by curve name and step, counted from 0; None is a decreasing loss.
        settings: changes to :data:`CONFIG`, with ``__`` instead of a dot.
    """
    folder = root / "lightning_logs" / name / f"version_{version}"
    folder.mkdir(parents=True)
    settings = {key.replace("__", "."): value for key, value in settings.items()}
    (folder / "config.yaml").write_text(yaml.safe_dump(changed(CONFIG, {**settings, "name": name})))
    if summary != {}:
        (folder / "summary.json").write_text(json.dumps({**SUMMARY, **(summary or {})}))
    if curves is None:
        falling = {step: 5 / (1 + step) + 1 for step in range(100)}
        curves = {"train/loss": falling, "train/bpb": falling, "val/bpb": {49: 1.8, 99: 1.6}}
    steps = sorted({step for curve in curves.values() for step in curve})
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "tokens", "seconds", *curves])
        writer.writeheader()
        for step in steps:
            row = {key: curve[step] for key, curve in curves.items() if step in curve}
            writer.writerow({"step": step, "tokens": 128 * (step + 1), "seconds": 10 + 0.5 * step, **row})
    return folder
