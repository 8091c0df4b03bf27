"""The trials of a sweep, kept in a file: what is there after an end of any kind, and who gets which."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.sweeping.process_identity import lives, owner, process_of
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
while (work := storage.claim()) is not None:
    print(json.dumps([work.trial.number, work.trial.setting, work.trial.seed]), flush=True)
    sys.stdin.readline()  # the first one is done when the others have one, too
    time.sleep(0.02)
    work.finish("done", 1.0, 0.0)
"""


def test_a_grid_is_worked_through_and_kept(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "sweep", GRID, [7])
    assert storage.left() == 4
    seen = []
    while (work := storage.claim()) is not None:
        assert work.trial.status == RUNNING
        assert not work.begun
        seen.append(tuple(work.trial.setting.values()))
        work.finish(DONE, 2.0 - work.trial.number / 10, 1.5)
    assert seen == [("4", "0.01"), ("4", "0.02"), ("6", "0.01"), ("6", "0.02")]
    again = Storage(tmp_path / "sweep", GRID, [7])
    assert again.claim() is None
    assert [(t.number, t.seed, t.status, t.value, t.seconds) for t in again.trials()][-1] == (3, 7, DONE, 1.7, 1.5)
    assert Storage(tmp_path / "sweep", GRID, [7, 8]).left() == 4  # more seeds for the same settings


def test_what_was_left_is_gone_on_with_before_anything_new(tmp_path: Path) -> None:
    storage = Storage(tmp_path, GRID, [7])
    first = storage.claim()
    assert first is not None
    first.report([3.0, 2.5])
    first.leave()
    assert storage.trials()[0].status == INTERRUPTED
    assert storage.trials()[0].value == 2.5
    again = Storage(tmp_path, GRID, [7]).claim()
    assert again is not None
    assert (again.trial.number, again.begun, again.process) == (0, True, None)
    again.report([3.0, 2.5, 2.0])  # what is known already is not told twice
    again.finish(PRUNED, None, 1.0)
    assert [(t.status, t.value) for t in storage.trials()] == [(PRUNED, 2.0)]


def test_a_trial_whose_process_died_is_free_and_one_whose_process_lives_is_not(tmp_path: Path) -> None:
    storage = Storage(tmp_path, GRID, [7])
    work = storage.claim()
    assert work is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    work.handle.set_user_attr("owner", owner(child.pid))
    work.started(child.pid)
    assert storage.trials()[0].status == RUNNING
    other = storage.claim()
    assert other is not None
    assert other.trial.number == 1
    work.handle.set_user_attr("owner", None)  # as if the sweep had been killed, and its trial not
    found = Storage(tmp_path, GRID, [7]).claim()
    assert found is not None
    assert (found.trial.number, found.process and found.process.pid) == (0, child.pid)
    work.handle.set_user_attr("owner", owner(child.pid))
    child.communicate(b"\n")
    assert storage.trials()[0].status == INTERRUPTED


def test_a_number_given_to_another_process_is_not_taken_for_it() -> None:
    mine = owner()
    assert lives(mine)
    assert process_of(mine) is not None
    assert not lives({**mine, "born": mine["born"] - 100})
    assert not lives(None)
    elsewhere = {**mine, "host": "another machine"}
    assert lives(elsewhere)  # it has just said so
    assert not lives({**elsewhere, "seen": mine["seen"] - 3600})
    assert process_of(elsewhere) is None


def test_failures_are_kept_with_their_reason_and_tried_again_on_request(tmp_path: Path) -> None:
    storage = Storage(tmp_path, GRID[:1], [7])
    for _ in range(2):
        work = storage.claim()
        assert work is not None
        work.finish(FAILED, None, 1.0, "no room")
    assert storage.claim() is None
    assert storage.trials()[1].reason == "no room"
    again = Storage(tmp_path, GRID[:1], [7], retry=True)
    assert again.left() == 2
    work = again.claim()
    assert work is not None
    assert (work.trial.number, work.trial.setting) == (2, {"model.depth": "4"})


def test_a_search_draws_within_its_range_and_never_the_same_twice(tmp_path: Path) -> None:
    storage = Storage(tmp_path, RANGE, [0, 1], search=6)
    while (work := storage.claim()) is not None:
        work.finish(DONE, float(work.trial.setting["model.matrix_lr"]), 1.0)
    trials = storage.trials()
    assert len(trials) == 12  # six settings, each with both seeds
    settings = {json.dumps(t.setting, sort_keys=True) for t in trials}
    assert len(settings) == 6
    assert all(0.001 <= float(t.setting["model.matrix_lr"]) <= 0.1 for t in trials)
    assert all(1 <= int(t.setting["model.depth"]) <= 50 for t in trials)
    assert Storage(tmp_path, RANGE, [0, 1], search=7).left() == 2  # a longer search goes on


def test_a_search_ends_where_all_has_been_tried(tmp_path: Path) -> None:
    axes = parse_axes(["model.depth=1..3"], search=True)
    storage = Storage(tmp_path, axes, [0], search=10)
    seen = []
    while (work := storage.claim()) is not None:
        seen.append(work.trial.setting["model.depth"])
        work.finish(DONE, 1.0, 1.0)
    assert sorted(seen) == ["1", "2", "3"]


def test_a_search_finds_the_better_end_of_its_range(tmp_path: Path) -> None:
    """TPE sees what came of the trials: most of the later ones lie where the score is better."""
    axes: list[Axis] = parse_axes(["model.warmdown=0.0..1.0"], search=True)
    storage = Storage(tmp_path, axes, [0], search=30)
    while (work := storage.claim()) is not None:
        work.finish(DONE, abs(float(work.trial.setting["model.warmdown"]) - 0.9), 1.0)
    later = [float(trial.setting["model.warmdown"]) for trial in storage.trials()[15:]]
    assert sum(value > 0.7 for value in later) >= 10  # by chance 4.5 of 15


def test_hopeless_is_what_is_worse_than_the_median_at_the_same_validation(tmp_path: Path) -> None:
    axes = parse_axes(["model.depth=1,2,3,4,5"], search=False)
    storage = Storage(tmp_path, axes, [0], pruning="median")
    for value in (2.0, 2.1, 2.2):
        work = storage.claim()
        assert work is not None
        for validations in ([value + 1], [value + 1, value + 0.5], [value + 1, value + 0.5, value]):
            work.report(validations)
            assert not work.is_hopeless()
        work.finish(DONE, value, 1.0)
    bad, good = storage.claim(), storage.claim()
    assert bad is not None
    assert good is not None
    bad.report([9.0])
    assert not bad.is_hopeless()  # its first validation says too little
    bad.report([9.0, 2.65])
    assert bad.is_hopeless()  # the median there is 2.6
    good.report([9.0, 2.55])
    assert not good.is_hopeless()


def test_another_sweep_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    storage = Storage(tmp_path, GRID, [7])
    settings = {"trainer.max_steps": 100, "model.depth": 4}
    first = {"kind": "grid", "options": ["a", "b"], "settings": settings}
    storage.define(first)
    storage.define({**first, "options": ["b", "a"]})
    for other, said in (
        ({**first, "settings": {**settings, "trainer.max_steps": 200}}, "trainer.max_steps=100 instead of 200"),
        ({**first, "options": ["a"]}, "that varies a, b"),
        ({**first, "kind": "search"}, "that is a grid"),
    ):
        with pytest.raises(ValueError, match=said):
            Storage(tmp_path, GRID, [7]).define(other)


def test_one_process_sums_up_what_there_is(tmp_path: Path) -> None:
    first, second = Storage(tmp_path, GRID, [7]), Storage(tmp_path, GRID, [7])
    work = first.claim()
    assert work is not None
    work.finish(DONE, 1.0, 1.0)
    assert first.is_first_to_sum_up()
    assert not second.is_first_to_sum_up()
    work = second.claim()
    assert work is not None
    work.finish(DONE, 1.0, 1.0)
    assert second.is_first_to_sum_up()


def test_of_processes_that_ask_at_once_each_gets_another_trial(tmp_path: Path) -> None:
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
    go_on(workers, 2 * search)  # from now on whoever is first
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
