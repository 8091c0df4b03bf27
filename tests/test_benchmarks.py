"""The benchmarks run; what they measure is theirs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.cli.tools import ROOT

pytestmark = pytest.mark.slow


def rows(*arguments: str) -> list[dict[str, Any]]:
    """The rows that a benchmark prints in its last line."""
    script, *options = arguments
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *options], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout.strip().splitlines()[-1])["rows"]
    return found


def test_generating_is_measured() -> None:
    (row,) = rows("generate.py", "tiny", "--streams=2", "--tokens=3", "--repeats=1")
    assert row["tokens/s"] > 0


def test_training_is_measured() -> None:
    (row,) = rows("throughput.py", "tiny", "--steps=2", "--options=--model.compile=false")
    shares = [float(row[name].rstrip("%")) for name in ("forward", "backward", "optimizer", "outside")]
    assert sum(shares) == pytest.approx(100, abs=0.5)
