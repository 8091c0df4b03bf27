"""Measures val/bpb of runs of many sizes and lengths on the embedded corpus: the data that ``plan`` forecasts from.

    python benchmarks/scaling.py --out runs.csv                      # all runs: about half an hour on two cores
    python benchmarks/scaling.py --out runs.csv --only 4-2048-1000K  # one run, by name

Each run is a complete run of ``fit`` with the recipe of the tier tiny, to the end of its learning rate decay, scored on
all held-out text. Finished runs are appended to the file; runs that are already in the file are skipped. The project's
own file is ``nanochat/planning/measured.csv``.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from report import ROOT

ROW_LENGTH = 128  # tokens in a row, as in configs/tiny.yaml


class Experiment(NamedTuple):
    """A run to measure; ``row_length`` must divide ``tokens_per_step``."""

    depth: int
    vocab_size: int
    tokens: int
    tokens_per_step: int = 512
    row_length: int = ROW_LENGTH
    seed: int = 0

    @property
    def name(self) -> str:
        suffix = f"-step{self.tokens_per_step}" if self.tokens_per_step != 512 else ""
        suffix += f"-row{self.row_length}" if self.row_length != ROW_LENGTH else ""
        suffix += f"-seed{self.seed}" if self.seed else ""
        return f"{self.depth}-{self.vocab_size}-{self.tokens // 1000}K{suffix}"

    def options(self) -> list[str]:
        """Command-line options of ``fit``, in addition to configs/tiny.yaml."""
        rows = min(4 * ROW_LENGTH, self.tokens_per_step) // self.row_length
        return [
            f"--model.depth={self.depth}",
            f"--data.vocab_size={self.vocab_size}",
            f"--data.row_length={self.row_length}",
            f"--data.batch_size={rows}",
            f"--data.tokens_per_step={self.tokens_per_step}",
            "--data.validations=1",
            f"--trainer.max_steps={self.tokens // self.tokens_per_step}",
            f"--seed_everything={self.seed}",
            "--model.compile=false",
        ]


EXPERIMENTS = [
    Experiment(4, 512, 500_000),
    Experiment(4, 2048, 500_000),
    Experiment(2, 512, 500_000),
    Experiment(6, 512, 250_000),
    Experiment(4, 1024, 500_000),
    Experiment(4, 512, 125_000),
    Experiment(2, 2048, 1_000_000),
    Experiment(4, 2048, 125_000),
    Experiment(3, 1024, 250_000),
    Experiment(4, 512, 500_000, tokens_per_step=2048),
    Experiment(4, 2048, 1_000_000),
    Experiment(6, 2048, 250_000),
    Experiment(4, 4096, 500_000),
    Experiment(3, 2048, 1_000_000),
    Experiment(4, 512, 1_500_000),
    Experiment(8, 1024, 125_000),
    Experiment(2, 1024, 125_000),
    Experiment(6, 1024, 500_000),
    Experiment(4, 2048, 500_000, row_length=256),
    Experiment(4, 2048, 500_000, tokens_per_step=1024),
    Experiment(2, 4096, 1_000_000),
    Experiment(4, 512, 500_000, seed=1),
    Experiment(4, 2048, 500_000, seed=1),
    Experiment(4, 1024, 1_000_000, tokens_per_step=4096),
    Experiment(6, 4096, 250_000),
    Experiment(3, 2048, 2_000_000),
    Experiment(2, 2048, 3_000_000),
    Experiment(4, 512, 1_000_000, seed=42),
    Experiment(2, 512, 2_000_000, seed=42),
    Experiment(8, 2048, 250_000),
]

COLUMNS = (
    "name",
    "date",
    "machine",
    "corpus",
    "depth",
    "width",
    "vocab_size",
    "row_length",
    "tokens_per_step",
    "steps",
    "tokens",
    "bytes",
    "parameters",
    "precision",
    "seed",
    "seconds",
    "tokens_per_second",
    "val_bpb",
    "command",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to append the runs to")
    parser.add_argument("--only", nargs="+", help="names of runs; all runs by default")
    arguments = parser.parse_args()
    for experiment in EXPERIMENTS:
        selected = arguments.only is None or experiment.name in arguments.only
        if selected and experiment.name not in finished(arguments.out):
            append(arguments.out, measure(experiment))


def finished(path: Path) -> set[str]:
    """The names of the runs in a file."""
    if not path.is_file():
        return set()
    with path.open(newline="") as file:
        return {row["name"] for row in csv.DictReader(file)}


def append(path: Path, row: dict[str, Any]) -> None:
    """Appends a row; a new file starts with the header."""
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def measure(experiment: Experiment) -> dict[str, Any]:
    """Runs ``fit`` once; returns the row of the CSV file."""
    words = ["cli.py", "fit", "--config", "configs/tiny.yaml", *experiment.options()]
    print(f"{experiment.name}: {shlex.join(['python', *words])}", flush=True)
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, *words, f"--trainer.default_root_dir={root}", "--checkpoint.every_n_minutes=60"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        (run,) = Path(root).glob("lightning_logs/tiny/version_0")
        facts = json.loads((run / "summary.json").read_text())
        text_bytes = training_bytes(run / "metrics.csv", facts["tokens"])
    print(f"  val/bpb {facts['val_bpb']:.4f} after {facts['seconds']:.0f} s", flush=True)
    from nanochat.training.hardware import processor_name

    return {
        "name": experiment.name,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{processor_name()}, {facts['device']}",
        "corpus": facts["corpus_fingerprint"],
        "depth": experiment.depth,
        "width": 64 * experiment.depth,
        "vocab_size": experiment.vocab_size,
        "row_length": experiment.row_length,
        "tokens_per_step": experiment.tokens_per_step,
        "steps": facts["steps"],
        "tokens": facts["tokens"],
        "bytes": round(text_bytes),
        "parameters": facts["parameters"],
        "precision": facts["precision"],
        "seed": experiment.seed,
        "seconds": facts["seconds"],
        "tokens_per_second": facts["tokens_per_second"],
        "val_bpb": round(facts["val_bpb"], 5),
        "command": shlex.join(["python", *words]),
    }


def training_bytes(metrics: Path, tokens: int) -> float:
    """Bytes of text in a run's training tokens: loss in nats per token and bits per byte give bytes per token."""
    with metrics.open(newline="") as file:
        logged = [(float(r["train/loss"]), float(r["train/bpb"])) for r in csv.DictReader(file) if r.get("train/bpb")]
    return tokens * sum(loss / math.log(2) / bpb for loss, bpb in logged) / len(logged)


if __name__ == "__main__":
    main()
