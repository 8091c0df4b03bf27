"""What the forecast of ``plan`` rests on: val/bpb of finished runs of many sizes and lengths, on the embedded corpus.

    python benchmarks/scaling.py --out points.csv                      # the whole grid: about half an hour on two cores
    python benchmarks/scaling.py --out points.csv --only 4-2048-1000K  # a point by its name

Each point is a run of ``fit`` with the recipe of the tier tiny, from its first step to the end of its warm-down, scored
on all of the held-out text. Points are added to the file as they are finished, and those that it has are not
made again. The file that comes with the project is ``nanochat/planning/measured.csv``.
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

ROWS_OF = 128  # tokens in a row, as tiny has them


class Point(NamedTuple):
    """A run to make; ``row_length`` divides ``tokens_per_step``."""

    depth: int
    vocab_size: int
    tokens: int
    tokens_per_step: int = 512
    row_length: int = ROWS_OF
    seed: int = 0

    @property
    def name(self) -> str:
        more = f"-step{self.tokens_per_step}" if self.tokens_per_step != 512 else ""
        more += f"-row{self.row_length}" if self.row_length != ROWS_OF else ""
        more += f"-seed{self.seed}" if self.seed else ""
        return f"{self.depth}-{self.vocab_size}-{self.tokens // 1000}K{more}"

    def options(self) -> list[str]:
        """Those of ``fit``, over tiny's."""
        rows = min(4 * ROWS_OF, self.tokens_per_step) // self.row_length
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


POINTS = [
    Point(4, 512, 500_000),
    Point(4, 2048, 500_000),
    Point(2, 512, 500_000),
    Point(6, 512, 250_000),
    Point(4, 1024, 500_000),
    Point(4, 512, 125_000),
    Point(2, 2048, 1_000_000),
    Point(4, 2048, 125_000),
    Point(3, 1024, 250_000),
    Point(4, 512, 500_000, tokens_per_step=2048),
    Point(4, 2048, 1_000_000),
    Point(6, 2048, 250_000),
    Point(4, 4096, 500_000),
    Point(3, 2048, 1_000_000),
    Point(4, 512, 1_500_000),
    Point(8, 1024, 125_000),
    Point(2, 1024, 125_000),
    Point(6, 1024, 500_000),
    Point(4, 2048, 500_000, row_length=256),
    Point(4, 2048, 500_000, tokens_per_step=1024),
    Point(2, 4096, 1_000_000),
    Point(4, 512, 500_000, seed=1),
    Point(4, 2048, 500_000, seed=1),
    Point(4, 1024, 1_000_000, tokens_per_step=4096),
    Point(6, 4096, 250_000),
    Point(3, 2048, 2_000_000),
    Point(2, 2048, 3_000_000),
    Point(4, 512, 1_000_000, seed=42),
    Point(2, 512, 2_000_000, seed=42),
    Point(8, 2048, 250_000),
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
    parser.add_argument("--out", type=Path, required=True, help="the file to add the points to")
    parser.add_argument("--only", nargs="+", help="names of points; all of them if left")
    arguments = parser.parse_args()
    for point in POINTS:
        if (arguments.only is None or point.name in arguments.only) and point.name not in finished(arguments.out):
            add(arguments.out, measure(point))


def finished(path: Path) -> set[str]:
    """The names of the points that a file has."""
    if not path.is_file():
        return set()
    with path.open(newline="") as file:
        return {row["name"] for row in csv.DictReader(file)}


def add(path: Path, row: dict[str, Any]) -> None:
    """Writes a point at the end of the file."""
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def measure(point: Point) -> dict[str, Any]:
    """One run, and what came of it."""
    words = ["cli.py", "fit", "--config", "configs/tiny.yaml", *point.options()]
    print(f"{point.name}: {shlex.join(['python', *words])}", flush=True)
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, *words, f"--trainer.default_root_dir={root}", "--checkpoint.every_n_minutes=60"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        (run,) = Path(root).glob("lightning_logs/tiny/version_0")
        facts = json.loads((run / "summary.json").read_text())
        text = bytes_of(run / "metrics.csv", facts["tokens"])
    print(f"  val/bpb {facts['val_bpb']:.4f} after {facts['seconds']:.0f} s", flush=True)
    from nanochat.training.hardware import processor_name

    return {
        "name": point.name,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{processor_name()}, {facts['device']}",
        "corpus": facts["corpus_fingerprint"],
        "depth": point.depth,
        "width": 64 * point.depth,
        "vocab_size": point.vocab_size,
        "row_length": point.row_length,
        "tokens_per_step": point.tokens_per_step,
        "steps": facts["steps"],
        "tokens": facts["tokens"],
        "bytes": round(text),
        "parameters": facts["parameters"],
        "precision": facts["precision"],
        "seed": point.seed,
        "seconds": facts["seconds"],
        "tokens_per_second": facts["tokens_per_second"],
        "val_bpb": round(facts["val_bpb"], 5),
        "command": shlex.join(["python", *words]),
    }


def bytes_of(metrics: Path, tokens: int) -> float:
    """How many bytes of text a run has learned from: loss in nats a token, and bits a byte, say bytes a token."""
    with metrics.open(newline="") as file:
        rows = [(float(r["train/loss"]), float(r["train/bpb"])) for r in csv.DictReader(file) if r.get("train/bpb")]
    return tokens * sum(loss / math.log(2) / bpb for loss, bpb in rows) / len(rows)


if __name__ == "__main__":
    main()
