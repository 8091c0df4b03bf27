"""Training processes that are killed at random moments, and the curves that come of them."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.tools import ROOT, tiny_options, train

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")]
STEPS = 480
KILLS = 20
EXACT = ("train/loss", "train/bpb", "train/gradient_norm", "val/bpb", "tokens")


def options(corpus: Path, root: Path) -> list[str]:
    return [
        *tiny_options(corpus, root),
        f"--trainer.max_steps={STEPS}",
        "--trainer.log_every_n_steps=3",  # so that checkpoints fall between two lines of the log, too
        "--data.validations=24",
        "--checkpoint.every_n_train_steps=4",
        "--samples.max_tokens=4",
    ]


def curves(run: Path) -> list[tuple[int, dict[str, str]]]:
    with open(run / "metrics.csv", newline="") as file:
        rows = [(int(row["step"]), {name: row.get(name) or "" for name in EXACT}) for row in csv.DictReader(file)]
    return [(step, row) for step, row in rows if any(row.values())]


def board(run: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def live_and_die(arguments: list[str], log: Path, rng: random.Random) -> int | None:
    """Starts a process and kills it at a random moment of its training, or of its start; its status, None if killed."""
    with open(log, "w") as file:
        process = subprocess.Popen([sys.executable, str(ROOT / "cli.py"), "fit", *arguments], stdout=file, stderr=file)
    deadline = time.monotonic() + 250
    early = rng.random() < 0.2
    if early:
        time.sleep(rng.uniform(0, 8))
    else:
        while "Plan" not in log.read_text() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
    number = rng.choice([signal.SIGKILL] * 6 + [signal.SIGTERM, signal.SIGINT])
    # within the imports of others, Ctrl-C may be anything; how far it has come by then is another on each machine
    process.send_signal(signal.SIGKILL if early else number)
    status = process.wait(timeout=200)
    assert "Traceback" not in log.read_text(), log.read_text()
    return None if status in (-signal.SIGKILL, -signal.SIGTERM, 143, 130) else status


@pytest.mark.timeout(1500)
def test_killed_and_resumed_curves_are_the_same(corpus_folder: Path, tmp_path: Path) -> None:
    straight = train(options(corpus_folder, tmp_path / "straight"), tmp_path / "straight")
    rng = random.Random(20)
    kills = run = 0
    while kills < KILLS:  # a fast machine is done with a run before it has been killed as often: then there is another
        run += 1
        kills += killed_run(corpus_folder, tmp_path / f"killed{run}", rng, KILLS - kills, straight)


def killed_run(corpus_folder: Path, root: Path, rng: random.Random, most: int, straight: Path) -> int:
    """Kills a run until it is done, at most so often; compares its curves, and returns how often it was killed."""
    root.mkdir()
    folder = root / "lightning_logs" / "run"
    kills, resumed, reached = 0, 0, []
    while kills < most:
        known = sorted(folder.glob("version_*/checkpoints/last.ckpt"))
        more = ["--ckpt_path=last"] if known else []
        workers = [f"--data.num_workers={rng.choice([0, 0, 0, 2])}"]
        status = live_and_die([*options(corpus_folder, root), *workers, *more], root / "log.txt", rng)
        if status == 0:
            break  # it was done before it could be killed
        assert status is None, (root / "log.txt").read_text()
        kills, resumed = kills + 1, resumed + bool(known)
        rows = [step for step, _ in curves(known[-1].parents[1])] if known else []
        reached.append(max(rows, default=-1) + 1)
    print(f"{kills} kills, {resumed} of them after going on; steps in the log each time: {reached}")
    run = train([*options(corpus_folder, root), "--ckpt_path=last"], root)
    assert curves(run) == curves(straight)
    for name in ("train/loss", "val/bpb", "by_tokens/train/loss"):
        assert board(run, name) == board(straight, name), name
    scores = [json.loads((r / "summary.json").read_text()) for r in (run, straight)]
    for name in ("val_bpb", "best_val_bpb", "steps", "tokens"):
        assert scores[0][name] == scores[1][name]
    return kills
