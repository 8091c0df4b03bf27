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
