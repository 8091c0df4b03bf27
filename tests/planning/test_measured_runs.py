"""The user's own runs come into the forecast, if they are of the same kind."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from nanochat.planning.measured_runs import local_runs

RATE = 0.014 * (1000 / 2048 * 2) ** 0.3 * 2  # the rule's: two steps of 1,000 tokens to a move, and of moves only five


def write_run(root: Path, version: int, summary: dict[str, Any], model: dict[str, Any], rate: float = RATE) -> None:
    folder = root / "lightning_logs" / "mine" / f"version_{version}"
    folder.mkdir(parents=True)
    whole = {
        "complete": True,
        "val_bpb": 1.5,
        "tokens": 10_000,
        "steps": 10,
        "corpus_fingerprint": "same",
        "devices": 1,
        **summary,
    }
    (folder / "summary.json").write_text(json.dumps(whole))
    config = {"model": {"depth": 3, "width": None, **model}, "data": {"vocab_size": 512}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    # two bytes a token: a loss of 2 ln 2 nats a token is one bit a byte
    lines = [f"4,{2 * math.log(2)},1.0,{rate}", f"9,{math.log(2)},0.5,{rate / 2}"]
    (folder / "metrics.csv").write_text("\n".join(["step,train/loss,train/bpb,lr-MuonAdamW/matrices", *lines, ""]))


def test_a_finished_run_of_the_same_kind_is_a_point(tmp_path: Path) -> None:
    write_run(tmp_path, 0, {}, {})
    (point,) = local_runs(tmp_path, "same")
    assert point.score == 1.5
    assert point.size.parameters == 12 * 3 * 192**2
    assert point.size.text_bytes == pytest.approx(20_000)
    assert (point.size.vocab_size, point.size.tokens_per_step) == (512, 1000)


@pytest.mark.parametrize(
    ("summary", "model"),
    [
        ({"complete": False}, {}),
        ({"corpus_fingerprint": "other"}, {}),
        ({"devices": 2}, {}),
        ({"tokens": None}, {}),
        ({}, {"ngrams": 3}),  # as version 0.1.0 wrote them
        ({}, {"counted": 5}),
        ({}, {"shallow": 0.8}),
    ],
)
def test_other_runs_are_left_out(tmp_path: Path, summary: dict[str, Any], model: dict[str, Any]) -> None:
    write_run(tmp_path, 0, summary, model)
    assert local_runs(tmp_path, "same") == []


def test_a_run_at_another_rate_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, 0, {}, {}, rate=3 * RATE)
    assert local_runs(tmp_path, "same") == []
