"""The plan of a run with a time limit: validations, final scores, and changes of the number of steps."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanochat.data.chat_data import ChatDataModule
from nanochat.optim.learning_rates import LearningRates
from nanochat.training.budget.replanning import replan
from nanochat.training.budget.time_estimate import (
    SCORE_OVERHEAD,
    TOKENS_PER_ANSWER,
    TimeEstimate,
    affordable_validations,
)
from nanochat.training.budget.timing import StepTimes, time_step
from nanochat.training.callbacks.task_scores import TaskScores
from nanochat.training.language_model import LanguageModel
from nanochat.training.learning_rate_plan import LearningRatePlan
from tests.cli.tools import tiny_options, train


@pytest.mark.parametrize(("minutes", "expected"), [(0.5, 1), (1, 2), (1.7, 4), (60, 5)])
def test_a_short_run_has_fewer_validations(minutes: float, expected: int) -> None:
    """A validation takes a second, and 4 % of a minute are 2.4 seconds."""
    estimate = TimeEstimate(StepTimes(0, 0.0001))
    data: Any = SimpleNamespace(val_predictions=10_000)
    assert estimate.validation(data) == pytest.approx(1)
    assert affordable_validations(5, estimate.validation(data), minutes) == expected


class HeldOut(ChatDataModule):
    """40,000 held-out tokens, and questions of three tasks, two of which are scored."""

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
        (True, 0, 4.0 * SCORE_OVERHEAD),
        (True, 10, (4.0 + TOKENS_PER_ANSWER * (10 + 5) * 1e-4) * SCORE_OVERHEAD),
        (True, 10_000, 6.0),  # never more than a tenth of the time
    ],
)
def test_time_is_reserved_for_final_scores(
    validate_all: bool, items: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # excludes the time of the test itself
    trainer: Any = SimpleNamespace(
        global_step=0,
        datamodule=HeldOut(validate_all),
        callbacks=[TaskScores(items)],
        enable_validation=True,
        strategy=SimpleNamespace(broadcast=lambda value: value),
    )
    with_scores, without = (
        TimeEstimate(StepTimes(1e-3, token)).steps_in(trainer, minutes=1, slowdown=1.0, validations=0)
        for token in (1e-4, 0.0)
    )
    assert without - with_scores == pytest.approx(1000 * expected, abs=100)


@pytest.mark.parametrize(
    ("done", "fitting", "expected"),
    [
        (300, 900, 900),
        (300, 1200, 1200),
        (300, 100, 501),  # the warm-down begins now, at the earliest
        (800, 990, 990),  # during the warm-down the remaining steps change by 20 % at most
        (800, 1030, 1030),
        (800, 700, 960),
        (800, 2000, 1040),
        (999, 0, 1000),
    ],
)
def test_replanning_causes_no_jump_of_the_learning_rates(done: int, fitting: int, expected: int) -> None:
    rates = LearningRatePlan(LearningRates(None, None, None), warmup_steps=0, warmdown=0.4, final=0.0)
    assert replan(done, 1000, fitting, rates) == expected


def test_learning_rates_follow_the_number_of_steps() -> None:
    """The default rates are proportional to steps ** -0.4."""
    module = LanguageModel(depth=1, warmdown=0.5)
    scheduler = SimpleNamespace(base_lrs=[0.0] * 3)
    groups = [{"name": name} for name in ("embedding", "matrices", "head")]
    module._trainer = SimpleNamespace(  # type: ignore[assignment]
        datamodule=SimpleNamespace(tokens_per_step=lambda world_size: 2048),
        world_size=1,
        lr_scheduler_configs=[SimpleNamespace(scheduler=scheduler)],
        optimizers=[SimpleNamespace(param_groups=groups)],
    )
    module.set_total_steps(1000)
    previous = [group["lr"] for group in groups]
    module.set_total_steps(4000, done=300)
    for group, rate in zip(groups, previous, strict=True):
        assert group["lr"] == pytest.approx(rate * 4**-0.4)
    assert scheduler.base_lrs == [group["initial_lr"] for group in groups]
    module.set_total_steps(400, done=300)  # in the middle of the warm-down
    assert groups[1]["lr"] == pytest.approx(0.5 * groups[1]["initial_lr"])


def test_one_slow_micro_step_does_not_affect_the_plan(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first timed micro-step is slow, as if another program had the processor; those after it are not."""
    benchmarked: list[float] = []
    delay: list[float] = [0.0]

    def slow_once(self: LanguageModel, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:  # the first call is the warm-up
            delay[0] = 1000.0
        return training_step(self, *arguments)

    def record(trainer: Any, module: Any) -> StepTimes:
        times = time_step(trainer, module)
        benchmarked.append(times.step)
        return times

    calls: list[int] = []
    training_step = LanguageModel.training_step
    monkeypatch.setattr(LanguageModel, "training_step", slow_once)
    monkeypatch.setattr("nanochat.training.budget.plan.time_step", record)
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + delay[0])
    monkeypatch.setattr("nanochat.training.budget.timing.time", clock)
    train(tiny_options(corpus_folder, tmp_path), tmp_path)
    assert benchmarked[0] < 100
