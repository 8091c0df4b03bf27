"""What a run is planned with, where it is given minutes instead of steps."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanochat.data.chat_data import ChatDataModule
from nanochat.training.budget.plan import AROUND_A_SCORE, TOKENS_PER_ANSWER, Plan
from nanochat.training.budget.timing import StepTimes, time_step
from nanochat.training.callbacks.task_scores import TaskScores
from nanochat.training.language_model import LanguageModel
from tests.cli.tools import tiny_options, train


@pytest.mark.parametrize(("minutes", "expected"), [(0.5, 1), (1, 2), (1.7, 4), (60, 5)])
def test_a_short_run_has_fewer_validations(minutes: float, expected: int) -> None:
    """One takes a second here, and 4 % of a minute are 2.4 seconds."""
    plan = Plan(minutes)
    plan._times = StepTimes(0, 0.0001)
    data = SimpleNamespace(validations=5, val_predictions=10_000)
    trainer = SimpleNamespace(datamodule=data, strategy=SimpleNamespace(broadcast=lambda value: value))
    plan._afford_validations(trainer)  # type: ignore[arg-type]
    assert data.validations == expected


class HeldOut(ChatDataModule):
    """40,000 held-out tokens, and questions of three tasks, two of which have a score."""

    val_predictions = 0
    held_out: Any = SimpleNamespace(predictions=40_000)
    mixture: Any = SimpleNamespace(
        shares=[
            SimpleNamespace(scored=True, held_out_count=1000),
            SimpleNamespace(scored=True, held_out_count=5),
            SimpleNamespace(scored=False, held_out_count=1000),
        ]
    )

    def __init__(self, validate_all: bool) -> None:
        self.validate_all = validate_all


@pytest.mark.parametrize(
    ("validate_all", "items", "expected"),
    [
        (False, 0, 0.0),
        (True, 0, 4.0 * AROUND_A_SCORE),
        (True, 10, (4.0 + TOKENS_PER_ANSWER * (10 + 5) * 1e-4) * AROUND_A_SCORE),
        (True, 10_000, 6.0),  # never more than a tenth of the time
    ],
)
def test_the_scores_at_the_end_are_within_the_time(
    validate_all: bool, items: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # what the test itself takes is no part of it
    plan = Plan(minutes=1)
    plan._times = StepTimes(1e-3, 1e-4)
    data, module = HeldOut(validate_all), LanguageModel(depth=1)
    trainer: Any = SimpleNamespace(
        global_step=0,
        datamodule=data,
        callbacks=[TaskScores(items)],
        enable_validation=True,
        strategy=SimpleNamespace(broadcast=lambda value: value),
    )
    with_scores = plan._fitting(trainer, module, 1.0, validations=0)
    plan._times = StepTimes(1e-3, 0.0)
    without = plan._fitting(trainer, module, 1.0, validations=0)
    assert without - with_scores == pytest.approx(1000 * expected, abs=100)


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


def test_learning_rates_follow_a_plan_that_changes() -> None:
    """The rule's rates fall as steps ** -0.4."""
    module = LanguageModel(depth=1, warmdown=0.5)
    scheduler = SimpleNamespace(base_lrs=[0.0] * 3)
    groups = [{"name": name} for name in ("embedding", "matrices", "head")]
    module._trainer = SimpleNamespace(  # type: ignore[assignment]
        datamodule=SimpleNamespace(tokens_per_step=lambda world_size: 2048),
        world_size=1,
        lr_scheduler_configs=[SimpleNamespace(scheduler=scheduler)],
        optimizers=[SimpleNamespace(param_groups=groups)],
    )
    module.plan_for(1000)
    before = [group["lr"] for group in groups]
    module.plan_for(4000, done=300)
    for group, rate in zip(groups, before, strict=True):
        assert group["lr"] == pytest.approx(rate * 4**-0.4)
    assert scheduler.base_lrs == [group["initial_lr"] for group in groups]
    module.plan_for(400, done=300)  # halfway through the warm-down
    assert groups[1]["lr"] == pytest.approx(0.5 * groups[1]["initial_lr"])


def test_one_slow_moment_does_not_plan_a_run(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first timed step takes long because something else has the processor; those after it do not."""
    timed: list[float] = []
    lost: list[float] = [0.0]

    def once_slow(self: LanguageModel, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:  # the one before it only warms up
            lost[0] = 1000.0
        return step(self, *arguments)

    def keep(trainer: Any, module: Any) -> StepTimes:
        times = time_step(trainer, module)
        timed.append(times.step)
        return times

    calls: list[int] = []
    step = LanguageModel.training_step
    monkeypatch.setattr(LanguageModel, "training_step", once_slow)
    monkeypatch.setattr("nanochat.training.budget.plan.time_step", keep)
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + lost[0])
    monkeypatch.setattr("nanochat.training.budget.timing.time", clock)
    train(tiny_options(corpus_folder, tmp_path), tmp_path)
    assert timed[0] < 100
