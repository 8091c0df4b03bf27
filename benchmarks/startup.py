"""Measures start-up: ``--help``, ``fit --help``, and ``fit`` until its first step, with a filled cache.

    python benchmarks/startup.py --times 5

Each command runs in its own process; the first run fills the caches and is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import ROOT, report
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="repetitions")
    parser.add_argument("--config", default="configs/tiny.yaml")
    parser.add_argument("--corpus", default="embedded", help="--data.corpus")
    arguments = parser.parse_args()
    fit = ["fit", "--config", arguments.config, f"--data.corpus={arguments.corpus}"]
    commands = {
        "--help": ["--help"],
        "fit --help": ["fit", "--help"],
        "fit, to its first step": [*fit, "--trainer.max_steps=1", "--trainer.limit_val_batches=0"],
    }
    rows = []
    for name, options in commands.items():
        seconds = [run(options) for _ in range(arguments.times + 1)][1:]
        row = {"command": name, "median s": round(statistics.median(seconds), 2), "least s": round(min(seconds), 2)}
        rows.append({**row, "most s": round(max(seconds), 2)})
    report("startup", rows)


def run(options: list[str]) -> float:
    """Seconds from the start of the process to its end, or to its first logged step."""
    with tempfile.TemporaryDirectory() as root:
        training = "--config" in options
        more = [f"--trainer.default_root_dir={root}", "--trainer.log_every_n_steps=1"] if training else []
        started = time.time()
        words = [sys.executable, str(ROOT / "cli.py"), *options, *more]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        if not training:
            return time.time() - started
        (events,) = {path.parent for path in Path(root).glob("lightning_logs/*/version_0/events*")}
        return float(EventAccumulator(str(events)).Reload().Scalars("train/loss")[0].wall_time - started)


if __name__ == "__main__":
    main()
