"""Pending trials, and the comparison of settings."""

from __future__ import annotations

import math

import pytest

from nanochat.sweeping.comparison import RandomizedBlocks, compare, rank_settings
from nanochat.sweeping.results import describe_best, describe_failures, results_table
from nanochat.sweeping.space import parse_axes
from nanochat.sweeping.trials import (
    DONE,
    FAILED,
    INTERRUPTED,
    PRUNED,
    RUNNING,
    Trial,
    latest_attempts,
    pending_trials,
)

AXES = parse_axes(["model.depth=4,6"], search=False)


def trial(number: int, depth: int, seed: int = 0, status: str = DONE, value: float | None = 2.0) -> Trial:
    return Trial(
        number, {"model.depth": str(depth)}, seed, status, value, 65.0, "no room" if status == FAILED else None
    )


def pairs(*arguments: object, **options: object) -> list[tuple[int, int]]:
    known, draws = pending_trials(*arguments, **options)  # type: ignore[arg-type]
    assert draws == 0
    return [(int(setting["model.depth"]), seed) for setting, seed in known]


def test_grid_completes_a_seed_before_the_next() -> None:
    assert pairs(AXES, [1, 2], None, []) == [(4, 1), (6, 1), (4, 2), (6, 2)]


def test_started_trials_are_not_pending() -> None:
    for status in (DONE, RUNNING, INTERRUPTED):
        assert pairs(AXES, [1, 2], None, [trial(0, 4, 1, status)]) == [(6, 1), (4, 2), (6, 2)]
    more = parse_axes(["model.depth=4,6,8"], search=False)
    assert pairs(more, [1], None, [trial(0, 4, 1), trial(1, 6, 1)]) == [(8, 1)]  # a grid can be extended


@pytest.mark.parametrize("status", [FAILED, PRUNED])
def test_failed_and_pruned_settings_are_not_tried_with_other_seeds(status: str) -> None:
    assert pairs(AXES, [1, 2], None, [trial(0, 4, 1, status)]) == [(6, 1), (6, 2)]


def test_retry_of_failed_trials() -> None:
    started = [trial(0, 4, 1, FAILED), trial(1, 6, 1)]
    assert pairs(AXES, [1], None, started) == []
    assert pairs(AXES, [1], None, started, retry={0}) == [(4, 1)]
    assert pairs(AXES, [1], None, [*started, trial(2, 4, 1, FAILED)], retry={0}) == []
    assert [t.number for t in latest_attempts([*started, trial(2, 4, 1)])] == [1, 2]


def test_search_repeats_a_setting_before_the_next_draw() -> None:
    known, draws = pending_trials(AXES, [1, 2, 3], 4, [trial(0, 5, 1), trial(1, 5, 2), trial(2, 7, 1, PRUNED)])
    assert [(setting["model.depth"], seed) for setting, seed in known] == [("5", 3)]
    assert draws == 2  # two of the four settings are known


def test_mean_and_deviation_of_a_setting() -> None:
    results = rank_settings([trial(0, 4, 1, value=2.0), trial(1, 6, 1, value=1.5), trial(2, 4, 2, value=2.2)])
    assert [result.setting["model.depth"] for result in results] == ["6", "4"]
    assert results[1].mean == pytest.approx(2.1)
    assert results[1].deviation == pytest.approx(math.sqrt(0.02))  # (0.1^2 + 0.1^2) / 1
    assert results[0].deviation is None


def trials_with(scores: dict[int, dict[int, float]]) -> list[Trial]:
    """Trials with these scores, by depth and seed."""
    return [trial(10 * depth + s, depth, s, value=v) for depth, by_seed in scores.items() for s, v in by_seed.items()]


def test_effect_of_seeds_is_removed() -> None:
    # By hand: 6 is better by 0.10, 0.12 and 0.08 with the three seeds: by 0.10 on average. The standard deviation of
    # the differences is sqrt((0 + 0.02^2 + 0.02^2) / 2) = 0.02, so the standard error of their mean is 0.02 / sqrt(3) =
    # 0.011547, and the margin with 2 degrees of freedom is 4.303 times that, 0.04969. The seeds differ by far more.
    trials = trials_with({4: {1: 2.00, 2: 2.50, 3: 1.60}, 6: {1: 1.90, 2: 2.38, 3: 1.52}})
    six, four = rank_settings(trials)
    lead = compare(six, four, [six, four])
    assert (lead.value, lead.standard_error) == (pytest.approx(0.1), pytest.approx(0.011547, rel=1e-4))
    assert lead.degrees_of_freedom == 2
    assert lead.margin == pytest.approx(0.04969, rel=1e-3)
    assert describe_best(trials) == (
        "Best: depth=6 with val/bpb 1.9333 (3 seeds), 0.1000 below the next, depth=4. Compared seed by seed, noise "
        "alone causes a lead of up to 0.0497 in 19 of 20 cases (standard error 0.0115): this lead is larger than the "
        "noise."
    )


def test_noise_is_estimated_from_all_settings() -> None:
    # By hand: the means are 1, 2, 3 for the settings, 1.9 and 2.1 for the seeds, and 2 for all scores. The residuals
    # (score - setting - seed + all) are 0, +-0.1 and -+0.1: squares of 0.04 with (3 - 1) * (2 - 1) degrees of freedom.
    scores = {4: {1: 0.9, 2: 1.1}, 6: {1: 2.0, 2: 2.0}, 8: {1: 2.8, 2: 3.2}}
    blocks = RandomizedBlocks(list(scores.values()))
    assert (blocks.deviation, blocks.degrees_of_freedom) == (pytest.approx(math.sqrt(0.04 / 2)), 2)
    difference = blocks.difference(0, 1)
    assert difference.standard_error == pytest.approx(math.sqrt(0.02 * 2 / 2))  # of two means of two scores each
    assert difference.margin == pytest.approx(4.303 * math.sqrt(0.02))


def test_missing_seeds_do_not_bias_the_comparison() -> None:
    # With each common seed 6 is better by 0.1, but only 4 was trained with the seed that lowers all scores by 1.
    trials = trials_with({4: {1: 2.0, 2: 2.0, 3: 1.0}, 6: {1: 1.9, 2: 1.9}})
    six, four = rank_settings(trials)
    assert (six.setting["model.depth"], six.mean > four.mean) == ("6", True)
    assert compare(six, four, [six, four]).value == pytest.approx(0.1)


@pytest.mark.parametrize(
    "scores", [{4: {1: 2.0}, 6: {1: 1.9}}, {4: {1: 2.0, 2: 2.1}, 6: {1: 1.9}}, {4: {1: 2.0, 2: 2.1}, 6: {3: 1.9}}]
)
def test_unknown_noise_suggests_more_seeds(scores: dict[int, dict[int, float]]) -> None:
    text = describe_best(trials_with(scores))
    assert text.startswith("Best: depth=6 with val/bpb 1.9000")
    assert text.endswith("To measure how much of this is noise, run the same command with --seeds=3.")


def test_insignificant_lead_suggests_more_seeds() -> None:
    text = describe_best(trials_with({4: {1: 2.0, 2: 2.1}, 6: {1: 1.9, 2: 2.05}}))
    # differences 0.1 and 0.05: mean 0.075, deviation 0.035355, error 0.025, and 12.706 * 0.025 = 0.31765
    assert "0.0750 below the next" in text
    assert "up to 0.3176 in 19 of 20 cases (standard error 0.0250)" in text
    assert text.endswith("this lead may be noise. To measure it better, use more seeds (--seeds=4).")


def test_nothing_to_compare() -> None:
    assert "nothing to compare" in describe_best([trial(0, 4, status=FAILED, value=None)])
    assert "no other" in describe_best([trial(0, 4)])


def test_table_has_the_best_first_within_80_columns() -> None:
    long = {"data.corpus": "/a/very/long/path/" + "x" * 100, "model.depth": "4"}
    trials = [
        Trial(0, long, 1, DONE, 1.91234, 65.4),
        Trial(1, {**long, "model.depth": "6"}, 1, DONE, 1.8, 3700.0),
        Trial(2, {**long, "model.depth": "8"}, 1, FAILED, None, None, "no room"),
    ]
    lines = results_table(trials).splitlines()
    assert lines[0].split() == ["trial", "corpus", "depth", "val/bpb", "time", "status"]
    assert lines[1].split()[0] == "1"
    assert lines[2].split()[2:] == ["4", "1.9123", "1:05", "done"]
    assert lines[3].split()[2:] == ["8", "-", "-", "failed"]
    assert "1:01:40" in lines[1]
    assert max(map(len, lines)) <= 80
    assert "…" in lines[1]


def test_table_groups_the_seeds_of_a_setting() -> None:
    trials = [trial(0, 4, 1, value=2.0), trial(1, 4, 2, value=2.2), trial(2, 4, 3, RUNNING, None)]
    lines = results_table(trials).splitlines()
    assert lines[0].split() == ["trials", "depth", "val/bpb", "+/-", "time", "status"]
    assert lines[1].split()[:5] == ["0,1,2", "4", "2.1000", "0.1414", "1:05"]
    assert lines[1].endswith("2 done, 1 running")


def test_failures_are_grouped_by_reason() -> None:
    trials = [trial(0, 4, status=FAILED), trial(1, 6), trial(2, 8, status=FAILED)]
    assert describe_failures(trials) == ["trials 0,2 failed: no room"]
