"""Which trials are wanted, and which setting was best."""

from __future__ import annotations

import math

import pytest

from nanochat.sweeping.comparison import SeedBySeed, lead, results
from nanochat.sweeping.results import best, reasons, table
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


def of_seeds(scores: dict[int, dict[int, float]]) -> list[Trial]:
    """Trials of these scores, by depth and seed."""
    return [trial(10 * depth + s, depth, s, value=v) for depth, of in scores.items() for s, v in of.items()]


def test_what_a_seed_does_to_all_settings_is_no_noise_between_them() -> None:
    # By hand: 6 is better by 0.10, 0.12 and 0.08, seed by seed: 0.10 on average. The differences deviate by
    # sqrt((0 + 0.02^2 + 0.02^2) / 2) = 0.02, so their mean has a standard error of 0.02 / sqrt(3) = 0.011547, and with
    # 2 degrees of freedom up to 4.303 times that, 0.04969, is chance. The seeds differ by far more, alike in both.
    trials = of_seeds({4: {1: 2.00, 2: 2.50, 3: 1.60}, 6: {1: 1.90, 2: 2.38, 3: 1.52}})
    six, four = results(trials)
    ahead = lead(six, four, [six, four])
    assert (ahead.value, ahead.error, ahead.freedom) == (pytest.approx(0.1), pytest.approx(0.011547, rel=1e-4), 2)
    assert ahead.by_chance == pytest.approx(0.04969, rel=1e-3)
    assert best(trials) == (
        "Best: depth=6 with val/bpb 1.9333 (3 seeds), 0.1000 below the next, depth=4. Compared seed by seed, chance "
        "alone makes a lead of up to 0.0497 in 19 of 20 cases (standard error 0.0115): this one is more than chance "
        "explains."
    )


def test_chance_is_estimated_from_all_settings() -> None:
    # By hand: the means of the settings are 1, 2, 3, of the seeds 1.9 and 2.1, of all 2. What is left of the scores
    # (score - setting - seed + all) is 0, +-0.1 and -+0.1: squares of 0.04 with (3 - 1) * (2 - 1) degrees of freedom.
    scores = {4: {1: 0.9, 2: 1.1}, 6: {1: 2.0, 2: 2.0}, 8: {1: 2.8, 2: 3.2}}
    parts = SeedBySeed(list(scores.values()))
    assert (parts.deviation, parts.freedom) == (pytest.approx(math.sqrt(0.04 / 2)), 2)
    assert parts.lead(0, 1).error == pytest.approx(math.sqrt(0.02 * 2 / 2))  # of a difference of means of two each
    assert parts.lead(0, 1).by_chance == pytest.approx(4.303 * math.sqrt(0.02))


def test_a_setting_that_lacks_a_lucky_seed_is_not_behind_for_that() -> None:
    # With each seed 6 is better by 0.1, but only 4 was trained with the seed in which all is lower by 1.
    trials = of_seeds({4: {1: 2.0, 2: 2.0, 3: 1.0}, 6: {1: 1.9, 2: 1.9}})
    six, four = results(trials)
    assert (six.setting["model.depth"], six.mean > four.mean) == ("6", True)
    assert lead(six, four, [six, four]).value == pytest.approx(0.1)


@pytest.mark.parametrize(
    "scores", [{4: {1: 2.0}, 6: {1: 1.9}}, {4: {1: 2.0, 2: 2.1}, 6: {1: 1.9}}, {4: {1: 2.0, 2: 2.1}, 6: {3: 1.9}}]
)
def test_without_pairs_nobody_knows_what_is_chance_and_how_to_measure_it_is_said(
    scores: dict[int, dict[int, float]],
) -> None:
    said = best(of_seeds(scores))
    assert said.startswith("Best: depth=6 with val/bpb 1.9000")
    assert said.endswith("How much of that is chance is not known: with --seeds=3, the same command measures it.")


def test_a_lead_that_chance_may_have_made_asks_for_more_seeds() -> None:
    said = best(of_seeds({4: {1: 2.0, 2: 2.1}, 6: {1: 1.9, 2: 2.05}}))
    # differences 0.1 and 0.05: mean 0.075, deviation 0.035355, error 0.025, and 12.706 * 0.025 = 0.31765
    assert "0.0750 below the next" in said
    assert "up to 0.3176 in 19 of 20 cases (standard error 0.0250)" in said
    assert said.endswith("this one may be chance. More seeds tell (--seeds=4).")


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
