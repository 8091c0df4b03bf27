"""A fake `fit` for tests of the sweep: writes the same files as training, in a tenth of a second.

python -m tests.sweeping.fake_fit fit --model.quality=0.3 --pace=0.05 --root=... --name=... --version=...
It runs STEPS steps and saves its state after each, so that it can be resumed. SIGTERM stops it after the current step.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

STEPS = 6  # with a validation each
HELD_AT = 2  # after this many steps, it waits while the file <value of --hold><value of --version> exists
stopped: list[int] = []


def main() -> int:
    options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[2:])
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    signal.signal(signal.SIGINT, lambda number, frame: stopped.append(number))
    folder = Path(options["root"], "lightning_logs", options["name"], f"version_{options['version']}")
    folder.mkdir(parents=True, exist_ok=True)
    quality, pace = options.get("model.quality", "0"), float(options.get("pace", 0.01))
    if quality == "bad":
        print("nanochat: error: --model.quality=bad is not possible: expected a number", file=sys.stderr)
        return 2
    if quality == "crash":
        raise RuntimeError("an unexpected error")
    noise = 0.01 * (int(options["seed_everything"]) % 3)
    score = 3.0 - float(quality) + noise
    state = folder / "last.json"
    done = json.loads(state.read_text())["steps"] if state.exists() else 0
    metrics, held = folder / "metrics.csv", Path(options.get("hold", "") + options["version"])
    if not done:
        metrics.write_text("step,tokens,seconds,val/bpb\n")
    with open(folder / "starts.txt", "a") as file:
        file.write(f"{done}\n")  # the first step of each process
    for step in range(done, STEPS):
        if stopped:
            return 128 + stopped[0]
        time.sleep(pace)
        while step >= HELD_AT and "hold" in options and held.exists() and not stopped:
            time.sleep(0.01)
        with open(metrics, "a") as file:
            file.write(f"{step},{step},{step * pace},{score + STEPS - 1 - step}\n")
        state.write_text(json.dumps({"steps": step + 1}))
    value = float("nan") if quality == "0.666" else score
    (folder / "summary.json").write_text(json.dumps({"val_bpb": value, "seconds": 1.5, "complete": True}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
