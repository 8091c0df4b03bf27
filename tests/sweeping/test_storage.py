"""Storage of trials: after interruptions of any kind, and with concurrent processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.sweeping.process_identity import find_process, identify, is_alive
from nanochat.sweeping.space import Axis, parse_axes
from nanochat.sweeping.storage import Storage
from nanochat.sweeping.trials import DONE, FAILED, INTERRUPTED, PRUNED, RUNNING
from tests.cli.tools import ROOT

GRID = parse_axes(["model.depth=4,6", "model.matrix_lr=0.01,0.02"], search=False)
RANGE = parse_axes(["model.matrix_lr=0.001..0.1", "model.depth=1..50"], search=True)
WORKER = """
import json, sys, time
from pathlib import Path
from nanochat.sweeping.space import parse_axes
from nanochat.sweeping.storage import Storage
axes = parse_axes(json.loads(sys.argv[2]), search=True)
storage = Storage(Path(sys.argv[1]), axes, [0, 1], search=int(sys.argv[3]))
print("ready", flush=True)
sys.stdin.readline()
while (claimed := storage.claim()) is not None:
    print(json.dumps([claimed.trial.number, claimed.trial.setting, claimed.trial.seed]), flush=True)
    sys.stdin.readline()  # so that the first trial is not finished before the others are claimed
    time.sleep(0.02)
    claimed.finish("done", 1.0, 0.0)
"""


def test_grid(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "sweep", GRID, [7])
    assert storage.remaining() == 4
    seen = []
    while (claimed := storage.claim()) is not None:
        assert claimed.trial.status == RUNNING
        assert not claimed.resumed
        seen.append(tuple(claimed.trial.setting.values()))
        claimed.finish(DONE, 2.0 - claimed.trial.number / 10, 1.5)
    assert seen == [("4", "0.01"), ("4", "0.02"), ("6", "0.01"), ("6", "0.02")]
    reopened = Storage(tmp_path / "sweep", GRID, [7])
    assert reopened.claim() is None
    assert [(t.number, t.seed, t.status, t.value, t.seconds) for t in reopened.trials()][-1] == (3, 7, DONE, 1.7, 1.5)
    assert Storage(tmp_path / "sweep", GRID, [7, 8]).remaining() == 4  # more seeds for the same settings


def test_interrupted_trials_are_claimed_first(tmp_path: Path) -> None:
    storage = Storage(tmp_path, GRID, [7])
    first = storage.claim()
    assert first is not None
    first.report([3.0, 2.5])
    first.release()
    assert storage.trials()[0].status == INTERRUPTED
    assert storage.trials()[0].value == 2.5
    reopened = Storage(tmp_path, GRID, [7]).claim()
    assert reopened is not None
    assert (reopened.trial.number, reopened.resumed, reopened.process) == (0, True, None)
    reopened.report([3.0, 2.5, 2.0])  # values that are stored already are ignored
    reopened.finish(PRUNED, None, 1.0)
    assert [(t.status, t.value) for t in storage.trials()] == [(PRUNED, 2.0)]


def test_trials_of_dead_processes_can_be_claimed(tmp_path: Path) -> None:
    storage = Storage(tmp_path, GRID, [7])
    claimed = storage.claim()
    assert claimed is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    claimed.optuna_trial.set_user_attr("owner", identify(child.pid))
    claimed.record_process(child.pid)
    assert storage.trials()[0].status == RUNNING
    other = storage.claim()
    assert other is not None
    assert other.trial.number == 1
    claimed.optuna_trial.set_user_attr("owner", None)  # as if the sweep was killed, but not its training process
    found = Storage(tmp_path, GRID, [7]).claim()
    assert found is not None
    assert (found.trial.number, found.process and found.process.pid) == (0, child.pid)
    claimed.optuna_trial.set_user_attr("owner", identify(child.pid))
    child.communicate(b"\n")
    assert storage.trials()[0].status == INTERRUPTED


def test_reused_process_ids_are_recognised() -> None:
    mine = identify()
    assert is_alive(mine)
    assert find_process(mine) is not None
    assert not is_alive({**mine, "born": mine["born"] - 100})
    assert not is_alive(None)
    elsewhere = {**mine, "host": "another machine"}
    assert is_alive(elsewhere)  # its heartbeat is recent
    assert not is_alive({**elsewhere, "seen": mine["seen"] - 3600})
    assert find_process(elsewhere) is None


def test_failed_trials_keep_their_reason_and_can_be_retried(tmp_path: Path) -> None:
    storage = Storage(tmp_path, GRID[:1], [7])
    for _ in range(2):
        claimed = storage.claim()
        assert claimed is not None
        claimed.finish(FAILED, None, 1.0, "no room")
    assert storage.claim() is None
    assert storage.trials()[1].reason == "no room"
    reopened = Storage(tmp_path, GRID[:1], [7], retry=True)
    assert reopened.remaining() == 2
    claimed = reopened.claim()
    assert claimed is not None
    assert (claimed.trial.number, claimed.trial.setting) == (2, {"model.depth": "4"})


def test_search_draws_distinct_settings_within_the_range(tmp_path: Path) -> None:
    storage = Storage(tmp_path, RANGE, [0, 1], search=6)
    while (claimed := storage.claim()) is not None:
        claimed.finish(DONE, float(claimed.trial.setting["model.matrix_lr"]), 1.0)
    trials = storage.trials()
    assert len(trials) == 12  # six settings, each with both seeds
    settings = {json.dumps(t.setting, sort_keys=True) for t in trials}
    assert len(settings) == 6
    assert all(0.001 <= float(t.setting["model.matrix_lr"]) <= 0.1 for t in trials)
    assert all(1 <= int(t.setting["model.depth"]) <= 50 for t in trials)
    assert Storage(tmp_path, RANGE, [0, 1], search=7).remaining() == 2  # a longer search continues


def test_search_ends_when_all_settings_are_tried(tmp_path: Path) -> None:
    axes = parse_axes(["model.depth=1..3"], search=True)
    storage = Storage(tmp_path, axes, [0], search=10)
    seen = []
    while (claimed := storage.claim()) is not None:
        seen.append(claimed.trial.setting["model.depth"])
        claimed.finish(DONE, 1.0, 1.0)
    assert sorted(seen) == ["1", "2", "3"]


def test_search_concentrates_on_better_settings(tmp_path: Path) -> None:
    """TPE uses the results: most of the later trials are where the score is better."""
    axes: list[Axis] = parse_axes(["model.warmdown=0.0..1.0"], search=True)
    storage = Storage(tmp_path, axes, [0], search=30)
    while (claimed := storage.claim()) is not None:
        claimed.finish(DONE, abs(float(claimed.trial.setting["model.warmdown"]) - 0.9), 1.0)
    later = [float(trial.setting["model.warmdown"]) for trial in storage.trials()[15:]]
    assert sum(value > 0.7 for value in later) >= 10  # random draws: 4.5 of 15


def test_median_pruner_compares_the_same_validation(tmp_path: Path) -> None:
    axes = parse_axes(["model.depth=1,2,3,4,5"], search=False)
    storage = Storage(tmp_path, axes, [0], pruner="median")
    for value in (2.0, 2.1, 2.2):
        claimed = storage.claim()
        assert claimed is not None
        for validations in ([value + 1], [value + 1, value + 0.5], [value + 1, value + 0.5, value]):
            claimed.report(validations)
            assert not claimed.should_prune()
        claimed.finish(DONE, value, 1.0)
    bad, good = storage.claim(), storage.claim()
    assert bad is not None
    assert good is not None
    bad.report([9.0])
    assert not bad.should_prune()  # never at the first validation
    bad.report([9.0, 2.65])
    assert bad.should_prune()  # the median there is 2.6
    good.report([9.0, 2.55])
    assert not good.should_prune()


def test_different_sweep_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    storage = Storage(tmp_path, GRID, [7])
    settings = {"trainer.max_steps": 100, "model.depth": 4}
    first = {"kind": "grid", "options": ["a", "b"], "settings": settings}
    storage.check_definition(first)
    storage.check_definition({**first, "options": ["b", "a"]})
    for other, message in (
        ({**first, "settings": {**settings, "trainer.max_steps": 200}}, "trainer.max_steps=100 instead of 200"),
        ({**first, "options": ["a"]}, "that varies a, b"),
        ({**first, "kind": "search"}, "that is a grid"),
    ):
        with pytest.raises(ValueError, match=message):
            Storage(tmp_path, GRID, [7]).check_definition(other)


def test_only_one_process_analyses_the_results(tmp_path: Path) -> None:
    first, second = Storage(tmp_path, GRID, [7]), Storage(tmp_path, GRID, [7])
    claimed = first.claim()
    assert claimed is not None
    claimed.finish(DONE, 1.0, 1.0)
    assert first.claim_analysis()
    assert not second.claim_analysis()
    claimed = second.claim()
    assert claimed is not None
    claimed.finish(DONE, 1.0, 1.0)
    assert second.claim_analysis()


def test_concurrent_processes_claim_different_trials(tmp_path: Path) -> None:
    count, search = 2, 8
    words = [sys.executable, "-c", WORKER, str(tmp_path), json.dumps(["model.matrix_lr=0.001..0.1"]), str(search)]
    workers = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(count)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    go_on(workers, 1)
    firsts = [worker.stdout.readline() for worker in workers if worker.stdout is not None]
    go_on(workers, 2 * search)  # from now on in any order
    lines = [worker.communicate(timeout=200)[0].splitlines() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * count
    taken = [json.loads(line) for of_one in (firsts, *lines) for line in of_one]
    assert len({number for number, _, _ in taken}) == len(taken) == 2 * search
    assert len({(json.dumps(setting), seed) for _, setting, seed in taken}) == 2 * search


def go_on(workers: list[subprocess.Popen[str]], trials: int) -> None:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n" * trials)
        worker.stdin.flush()
