"""Writes run folders with known figures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SUMMARY = {
    "val_bpb": 1.5,
    "best_val_bpb": 1.6,
    "seconds": 300.0,
    "training_seconds": 240.0,
    "steps": 10,
    "tokens": 5000,
    "tokens_per_second": 20.8,
    "mfu": 0.25,
    "parameters": 1234567,
    "flops_per_token": 2_000_000,
    "peak_memory_bytes": 800_000_000,
    "corpus": "embedded",
    "corpus_fingerprint": "abc",
    "device": "CPU (2 threads of 2)",
    "devices": 1,
    "precision": "32-true",
    "versions": {"python": "3.12.1", "torch": "2.13.0", "lightning": "2.6.6"},
    "complete": True,
}


def write_run(
    root: Path,
    name: str,
    version: int = 0,
    started: int = 1000,
    summary: Mapping[str, Any] | str | None = None,
    config: Mapping[str, Any] | None = None,
    metrics: str = "step,tokens,seconds\n9,5000,290\n",
    checkpoint: bytes | None = b"weights",
) -> Path:
    """Writes a run that started at a given time and was last written to a minute later.

    Args:
        root: the folder that contains lightning_logs.
        name, version: of the run.
        started: in seconds since 1970.
        summary: changes to :data:`SUMMARY`; or the text of ``summary.json``; None for no file.
        config: the content of ``config.yaml``; None for no file.
        metrics: the text of ``metrics.csv``.
        checkpoint: the content of ``last.ckpt``, which need not be loadable; None for no file.
    """
    folder = root / "lightning_logs" / name / f"version_{version}"
    files: dict[str, bytes] = {f"events.out.tfevents.{started}.host.1.0": b"", "metrics.csv": metrics.encode()}
    if summary is not None:
        text = summary if isinstance(summary, str) else json.dumps({**SUMMARY, **summary})
        files["summary.json"] = text.encode()
    if config is not None:
        files["config.yaml"] = yaml.safe_dump(dict(config)).encode()
    if checkpoint is not None:
        files["checkpoints/last.ckpt"] = checkpoint
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (started + 60, started + 60))
    return folder


def write_scores(folder: Path, *entries: Mapping[str, Any]) -> None:
    """Writes ``evaluation.json``; the model of an entry is the last checkpoint unless its conditions name another."""
    from nanochat.evaluation.results_file import FORMAT, file_hash

    evaluations = []
    for entry in entries:
        conditions = {"max_per_task": None, **entry.get("conditions", {})}
        if "model" not in conditions:
            conditions["model"] = file_hash(folder / "checkpoints" / "last.ckpt")
        evaluations.append(
            {"format": FORMAT, "time": "2026-01-01", "checkpoint": "last.ckpt", **entry, "conditions": conditions}
        )
    (folder / "evaluation.json").write_text(json.dumps({"evaluations": evaluations}))


def core_task(right: int, items: int, baseline: float) -> dict[str, Any]:
    return {"right": right, "items": items, "baseline": baseline, "kind": "multiple_choice", "shots": 0, "seconds": 1.0}


def chat_task(right: list[int], chance: float = 0.0) -> dict[str, Any]:
    return {"right": right, "samples": 1, "too_long": 0, "seconds": 2.0, "kind": "answer", "chance": chance}
