"""Which trials are wanted, and which setting was best."""

from __future__ import annotations

import math

import pytest

from nanochat.sweeping.noise import Noise, noise, results
from nanochat.sweeping.report import best, reasons, table
from nanochat.sweeping.space import parse_axes
from nanochat.sweeping.trials import DONE, FAILED, INTERRUPTED, PRUNED, RUNNING, Trial, superseded, wanted

AXES = parse_axes(["model.depth=4,6"], search=False)


def trial(number: int, depth: int, seed: int = 0, status: str = DONE, value: float | None = 2.0) -> Trial:
    return Trial(
        number, {"model.depth": str(depth)}, seed, status, value, 65.0, "no room" if status == FAILED else None
    )


def pairs(*arguments: object, **options: object) -> list[tuple[int, int]]:
    known, draws = wanted(*arguments, **options)  # type: ignore[arg-type]
    assert draws == 0
    return [(int(setting["model.depth"]), seed) for setting, seed in known]


def test_a_grid_tries_all_settings_with_one_seed_before_the_next() -> None:
    assert pairs(AXES, [1, 2], None, []) == [(4, 1), (6, 1), (4, 2), (6, 2)]


def test_what_has_begun_is_not_begun_again_whatever_became_of_it() -> None:
    for status in (DONE, RUNNING, INTERRUPTED):
        assert pairs(AXES, [1, 2], None, [trial(0, 4, 1, status)]) == [(6, 1), (4, 2), (6, 2)]
    more = parse_axes(["model.depth=4,6,8"], search=False)
    assert pairs(more, [1], None, [trial(0, 4, 1), trial(1, 6, 1)]) == [(8, 1)]  # a grid may grow


@pytest.mark.parametrize("status", [FAILED, PRUNED])
def test_a_setting_without_hope_is_not_tried_with_other_seeds(status: str) -> None:
    assert pairs(AXES, [1, 2], None, [trial(0, 4, 1, status)]) == [(6, 1), (6, 2)]


def test_what_failed_is_tried_again_once_on_request() -> None:
    begun = [trial(0, 4, 1, FAILED), trial(1, 6, 1)]
    assert pairs(AXES, [1], None, begun) == []
    assert pairs(AXES, [1], None, begun, again={0}) == [(4, 1)]
    assert pairs(AXES, [1], None, [*begun, trial(2, 4, 1, FAILED)], again={0}) == []
    assert [t.number for t in superseded([*begun, trial(2, 4, 1)])] == [1, 2]


def test_a_search_repeats_a_setting_before_it_draws_the_next() -> None:
    known, draws = wanted(AXES, [1, 2, 3], 4, [trial(0, 5, 1), trial(1, 5, 2), trial(2, 7, 1, PRUNED)])
    assert [(setting["model.depth"], seed) for setting, seed in known] == [("5", 3)]
    assert draws == 2  # of four settings two are known


def test_the_mean_and_the_deviation_of_a_setting() -> None:
    found = results([trial(0, 4, 1, value=2.0), trial(1, 6, 1, value=1.5), trial(2, 4, 2, value=2.2)])
    assert [result.setting["model.depth"] for result in found] == ["6", "4"]
    assert found[1].mean == pytest.approx(2.1)
    assert found[1].deviation == pytest.approx(math.sqrt(0.02))  # (0.1^2 + 0.1^2) / 1
    assert found[0].deviation is None


def test_the_noise_is_pooled_over_settings() -> None:
    values = {4: [1.0, 1.2, 1.4], 6: [2.0, 2.1]}  # squares 0.08 and 0.005, degrees of freedom 2 and 1
    trials = [trial(10 * d + i, d, i, value=v) for d, of in values.items() for i, v in enumerate(of)]
    seeds = noise(results(trials))
    assert seeds is not None
    assert (seeds.freedom, seeds.deviation) == (3, pytest.approx(math.sqrt(0.085 / 3)))
    assert seeds.of_difference(3, 2) == pytest.approx(math.sqrt(0.085 / 3 * (1 / 3 + 1 / 2)))
    assert seeds.quantile == 3.182  # Student's t of 3 degrees of freedom, two-sided 95 %
    assert Noise(1.0, 1000).quantile == pytest.approx(1.962, abs=0.001)
    assert noise(results([trial(0, 4), trial(1, 6)])) is None


def test_one_seed_says_nothing_of_the_noise_and_how_to_measure_it() -> None:
    said = best([trial(0, 4, value=1.9), trial(1, 6, value=1.8), trial(2, 8, status=FAILED, value=None)])
    assert said.startswith("Best: depth=6 with val/bpb 1.8000 (version_1), 0.1000 below the next, depth=4.")
    assert "not known: with --seeds=3" in said


@pytest.mark.parametrize(("better", "said"), [(1.5, "more than chance explains"), (1.99, "chance explains the lead")])
def test_the_lead_is_held_against_the_noise(better: float, said: str) -> None:
    # deviation 0.1 between seeds with 2 degrees of freedom: a lead of 4.303 * 0.1 = 0.43 is the least to say anything
    values = {4: [1.95, 2.05], 6: [better - 0.05, better + 0.05]}
    trials = [trial(10 * d + i, d, i, value=v) for d, of in values.items() for i, v in enumerate(of)]
    deviation = math.sqrt(2 * 2 * 0.05**2 / 2)
    assert f"{deviation:.4f} between seeds" in best(trials)
    assert f"{4.303 * deviation:.4f}" in best(trials)
    assert said in best(trials)


def test_nothing_to_compare() -> None:
    assert "nothing to compare" in best([trial(0, 4, status=FAILED, value=None)])
    assert "no other" in best([trial(0, 4)])


def test_the_table_shows_the_best_first_in_eighty_columns() -> None:
    long = {"data.corpus": "/a/very/long/path/" + "x" * 100, "model.depth": "4"}
    trials = [
        Trial(0, long, 1, DONE, 1.91234, 65.4),
        Trial(1, {**long, "model.depth": "6"}, 1, DONE, 1.8, 3700.0),
        Trial(2, {**long, "model.depth": "8"}, 1, FAILED, None, None, "no room"),
    ]
    lines = table(trials).splitlines()
    assert lines[0].split() == ["trial", "corpus", "depth", "val/bpb", "time", "status"]
    assert lines[1].split()[0] == "1"
    assert lines[2].split()[2:] == ["4", "1.9123", "1:05", "done"]
    assert lines[3].split()[2:] == ["8", "-", "-", "failed"]
    assert "1:01:40" in lines[1]
    assert max(map(len, lines)) <= 80
    assert "…" in lines[1]


def test_the_table_takes_the_seeds_of_a_setting_together() -> None:
    trials = [trial(0, 4, 1, value=2.0), trial(1, 4, 2, value=2.2), trial(2, 4, 3, RUNNING, None)]
    lines = table(trials).splitlines()
    assert lines[0].split() == ["trials", "depth", "val/bpb", "+/-", "time", "status"]
    assert lines[1].split()[:5] == ["0,1,2", "4", "2.1000", "0.1414", "1:05"]
    assert lines[1].endswith("2 done, 1 running")


def test_the_same_reason_is_given_once() -> None:
    trials = [trial(0, 4, status=FAILED), trial(1, 6), trial(2, 8, status=FAILED)]
    assert reasons(trials) == ["trials 0,2 failed: no room"]
