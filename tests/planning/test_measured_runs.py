"""Measured runs: the bundled ones, and the user's own runs with the same recipe."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from nanochat.planning.candidates import block_parameters
from nanochat.planning.law import fit_law
from nanochat.planning.measured_runs import bundled_runs, bytes_per_token, local_runs

RATE = (
    0.014 * (1000 / 2048 * 2) ** 0.3 * 2
)  # the default: a Muon update every two steps of 1,000 tokens, so only five updates


def write_run(root: Path, version: int, summary: dict[str, Any], model: dict[str, Any], rate: float = RATE) -> None:
    folder = root / "lightning_logs" / "mine" / f"version_{version}"
    folder.mkdir(parents=True)
    full_summary = {
        "complete": True,
        "val_bpb": 1.5,
        "tokens": 10_000,
        "steps": 10,
        "corpus_fingerprint": "same",
        "devices": 1,
        **summary,
    }
    (folder / "summary.json").write_text(json.dumps(full_summary))
    config = {"model": {"depth": 3, "width": None, **model}, "data": {"vocab_size": 512}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    # two bytes per token: a loss of 2 ln 2 nats per token is one bit per byte
    lines = [f"4,{2 * math.log(2)},1.0,{rate}", f"9,{math.log(2)},0.5,{rate / 2}"]
    (folder / "metrics.csv").write_text("\n".join(["step,train/loss,train/bpb,lr-MuonAdamW/matrices", *lines, ""]))


def test_bundled_runs() -> None:
    runs, _ = bundled_runs()
    assert len(runs) >= 12
    assert {run.scale.vocab_size for run in runs} >= {512, 2048}
    assert fit_law([run.scale for run in runs], [run.score for run in runs]).error < 0.04
    assert block_parameters(4, 256) == 4 * (4 * 256**2 + 8 * 256**2)
    assert 1.5 < bytes_per_token(runs, 512) < bytes_per_token(runs, 700) < bytes_per_token(runs, 2048) < 4


def test_finished_run_with_the_same_recipe(tmp_path: Path) -> None:
    write_run(tmp_path, 0, {}, {})
    (run,) = local_runs(tmp_path, "same")
    assert run.score == 1.5
    assert run.scale.parameters == 12 * 3 * 192**2
    assert run.scale.text_bytes == pytest.approx(20_000)
    assert (run.scale.vocab_size, run.scale.tokens_per_step) == (512, 1000)


@pytest.mark.parametrize(
    ("summary", "model"),
    [
        ({"complete": False}, {}),
        ({"corpus_fingerprint": "other"}, {}),
        ({"devices": 2}, {}),
        ({"tokens": None}, {}),
        ({}, {"unknown_option": 3}),  # a model of another version
    ],
)
def test_other_runs_are_excluded(tmp_path: Path, summary: dict[str, Any], model: dict[str, Any]) -> None:
    write_run(tmp_path, 0, summary, model)
    assert local_runs(tmp_path, "same") == []


def test_run_with_another_learning_rate_is_excluded(tmp_path: Path) -> None:
    write_run(tmp_path, 0, {}, {}, rate=3 * RATE)
    assert local_runs(tmp_path, "same") == []
