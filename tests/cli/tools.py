"""How the tests run the command line."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from nanochat.cli import main

ROOT = Path(__file__).parent.parent.parent


def tiny_options(corpus: Path, root: Path) -> list[str]:
    """A model that trains in a blink, below ``root``."""
    return [
        "--name=run",
        f"--trainer.default_root_dir={root}",
        f"--data.corpus={corpus}",
        "--data.vocab_size=300",
        "--data.context=64",
        "--data.batch_size=2",
        "--data.tokens_per_step=256",
        "--data.val_tokens=500",
        "--model.depth=1",
        "--model.muon_every=1",  # so that few steps change all weights
        "--trainer.precision=32-true",  # on every machine: what is compared here is exact or nearly so
        "--trainer.max_steps=4",
        "--trainer.log_every_n_steps=1",
        "--data.validations=2",
    ]


def train(options: list[str], root: Path, *more: str) -> Path:
    """Trains in this process; returns the run's folder."""
    assert main(["fit", *options, *more]) == 0
    return newest(root)


def newest(root: Path, name: str = "run") -> Path:
    """The folder of the newest run of a name below ``root``."""
    return max((root / "lightning_logs" / name).glob("version_*"), key=lambda p: int(p.name.split("_")[1]))


def metrics(run: Path, name: str) -> list[tuple[int, float]]:
    """The steps and values of one column of ``metrics.csv``."""
    with open(run / "metrics.csv", newline="") as file:
        return [(int(row["step"]), float(row[name])) for row in csv.DictReader(file) if row.get(name)]


PREPARE: Callable[[], None] | None = None  # what the process does first, such as limiting itself


def command(
    *arguments: str, cwd: Path = ROOT, timeout: float = 800, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs ``python cli.py`` as a user does."""
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=timeout,
        preexec_fn=PREPARE,
    )
