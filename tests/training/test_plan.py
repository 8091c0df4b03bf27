"""What a run is planned with, where it is given minutes instead of steps."""

from types import SimpleNamespace

import pytest

from nanochat.training.plan import Plan


@pytest.mark.parametrize(("minutes", "expected"), [(0.5, 1), (1, 2), (1.7, 4), (60, 5)])
def test_a_short_run_has_fewer_validations(minutes: float, expected: int) -> None:
    """One takes a second here, and 4 % of a minute are 2.4 seconds."""
    plan = Plan(minutes)
    plan._token_seconds = 0.0001
    data = SimpleNamespace(validations=5, val_predictions=10_000)
    trainer = SimpleNamespace(datamodule=data, strategy=SimpleNamespace(broadcast=lambda value: value))
    plan._afford_validations(trainer)  # type: ignore[arg-type]
    assert data.validations == expected


@pytest.mark.parametrize(
    ("done", "fitting", "expected"),
    [
        (300, 900, 900),
        (300, 1200, 1200),
        (300, 100, 501),  # the rates may begin to fall now, at the earliest
        (800, 990, 990),  # they fall: a little less, a little more, but never by leaps
        (800, 1030, 1030),
        (800, 700, 960),
        (800, 2000, 1040),
        (999, 0, 1000),
    ],
)
def test_a_better_plan_never_makes_the_learning_rates_leap(done: int, fitting: int, expected: int) -> None:
    assert Plan._better_plan(done, 1000, fitting, warmdown=0.4) == expected
