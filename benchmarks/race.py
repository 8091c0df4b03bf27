"""The race: val/bpb after a given wall-clock time.

    python benchmarks/race.py --corpus path/to/prose --seconds 45 300 --seeds 0 1 2

runs ``fit`` once for each time and seed, with an empty cache. The time is that of the whole command, including imports,
the tokenizer and the validations during training. The model is then scored by ``validate`` on all held-out text, each
document alone in rows of 512 tokens. Options after ``--`` are passed to both.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import ROOT, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="embedded", help="--data.corpus")
    parser.add_argument("--config", default="configs/tiny.yaml", help="configuration of the tier")
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[45.0, 300.0], help="wall-clock time of the command"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--target", type=float, help="print after which of the times val/bpb is at most this")
    parser.add_argument("--warm", action="store_true", help="use the existing cache")
    parser.add_argument("more", nargs="*", help="options of fit, after --")
    arguments = parser.parse_args()
    rows = [race(arguments, seconds, seed) for seconds in arguments.seconds for seed in arguments.seeds]
    report("race", rows)
    if arguments.target is not None:
        times = [row["seconds"] for row in rows if row["val/bpb"] <= arguments.target]
        first = f"after {min(times):.0f} s" if times else "in none of the runs"
        print(f"\nval/bpb {arguments.target:g} was reached {first}")


def race(arguments: argparse.Namespace, seconds: float, seed: int) -> dict[str, Any]:
    """Trains once and scores the model."""
    with tempfile.TemporaryDirectory() as root:
        environment = dict(os.environ) if arguments.warm else {**os.environ, "NANOCHAT_CACHE": str(Path(root, "cache"))}

        def command(name: str, *options: str) -> str:
            given = ["--config", arguments.config, f"--data.corpus={arguments.corpus}", *arguments.more]
            words = [sys.executable, "cli.py", name, *given, f"--trainer.default_root_dir={root}", *options]
            print("  " + " ".join(words[1:]), flush=True)
            done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
            return done.stdout

        time_and_seed = (f"--plan.minutes={seconds / 60}", f"--seed_everything={seed}")
        started = time.perf_counter()
        command("fit", *time_and_seed, "--data.validate_all=false")
        taken = time.perf_counter() - started
        printed = command("validate", "--ckpt_path=last")
        (summary,) = Path(root).glob("lightning_logs/*/version_0/summary.json")
        facts = json.loads(summary.read_text())
    score = re.search(r"val/bpb ([\d.]+) on", printed)
    assert score is not None, printed
    return {
        "given s": seconds,
        "seconds": round(taken, 1),
        "seed": seed,
        "steps": facts["steps"],
        "tokens": facts["tokens"],
        "tokens/s": facts["tokens_per_second"],
        "val/bpb": float(score[1]),
    }


if __name__ == "__main__":
    main()
