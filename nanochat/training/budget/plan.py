"""The plan of a run: a memory check, a benchmark, the number of steps, and the report before the first step."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from nanochat.training.budget.memory_check import check_memory, reduce_batch_size
from nanochat.training.budget.replanning import SpeedMonitor, replan
from nanochat.training.budget.report import PlanReport
from nanochat.training.budget.time_estimate import MIN_STEPS, STEP_OVERHEAD, TimeEstimate, affordable_validations
from nanochat.training.budget.timing import StepTimes, time_step
from nanochat.training.console import duration, say, table
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import data_of, ends_step, find_callback, set_max_steps
from nanochat.wording import plural

REPORTED_CHANGE = 0.1  # a new number of steps is printed if it differs by more than this fraction


class Plan(Callback):
    """Checks the memory, times a few steps, chooses the number of steps, and prints the plan.

    Args:
        minutes: duration of the run, from the command to the end, with the final scores. Without --trainer.max_steps,
            training takes as many steps as fit into it on this machine. null: as many as are best for a model of this
            size.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and minutes <= 0:
            raise ValueError(f"--plan.minutes must be above 0, not {minutes:g}")
        self.minutes = minutes
        self.estimate = TimeEstimate(StepTimes(0.0, 0.0))
        self._speed = SpeedMonitor()
        self._chooses_steps = False  # whether the number of steps follows from the time

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The data module is set up, and Lightning has not counted micro-steps yet."""
        assert isinstance(pl_module, LanguageModel)
        if stage == "fit":
            reduce_batch_size(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is on its device, and nothing else has been allocated yet."""
        assert isinstance(pl_module, LanguageModel)
        check_memory(trainer, pl_module)
        self.estimate.times = time_step(trainer, pl_module)
        if self.minutes is not None and trainer.max_steps == -1 and find_callback(trainer, Timer) is None:
            self._chooses_steps = True
            self._choose_steps(trainer, pl_module, self.minutes)

    def _choose_steps(self, trainer: Trainer, module: LanguageModel, minutes: float) -> None:
        data = data_of(trainer)
        seconds = trainer.strategy.broadcast(self.estimate.validation(data))
        data.validations = affordable_validations(data.validations, seconds, minutes)
        steps = max(MIN_STEPS, self.estimate.steps_in(trainer, minutes, STEP_OVERHEAD, data.validations))
        set_max_steps(trainer, steps)
        module.set_total_steps(steps)
        data.space_validations(steps)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the plan."""
        assert isinstance(pl_module, LanguageModel)
        report = self.new_report(trainer, pl_module)
        rows = report.rows()
        if trainer.max_steps > 0:
            speed = report.speed(self.estimate.times.step)
            rows["time"] = f"about {duration(self.estimate.remaining(trainer))} at {speed}"
        if self._chooses_steps:
            assert self.minutes is not None
            rows["steps"] = f"as many as fit into {plural(self.minutes, 'minute')} here (or give --trainer.max_steps)"
        rows["written to"] = str(trainer.log_dir)
        say(table("Plan", rows))
        say()
        self._speed.restart()

    def new_report(self, trainer: Trainer, module: LanguageModel) -> PlanReport:
        """The report of this kind of training."""
        return PlanReport(trainer, module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Changes the number of steps a few times during the run, given the measured speed.

        Before the warm-down, the full learning rates become the rule's for the new number of steps. During the
        warm-down they stay, and the rates fall a little faster or slower.
        """
        assert isinstance(pl_module, LanguageModel)
        if not ends_step(trainer, batch_idx):
            return
        self._speed.add_step(self.estimate.times.step)
        if self._chooses_steps and self._speed.is_due(trainer.global_step, trainer.max_steps):
            self._replan(trainer, pl_module)

    def _replan(self, trainer: Trainer, module: LanguageModel) -> None:
        assert self.minutes is not None
        data, rates, done, planned = data_of(trainer), module.learning_rates, trainer.global_step, trainer.max_steps
        slowdown = self._speed.check()
        validations = max(1, data.validations - self._speed.validations)
        fitting = self.estimate.steps_in(trainer, self.minutes, slowdown, validations)
        steps = replan(done, planned, fitting, rates)
        if abs(steps - planned) > REPORTED_CHANGE * planned:
            step_seconds = slowdown * self.estimate.times.step
            say(f"A step takes {1000 * step_seconds:.0f} ms, not as planned: {steps:,} steps fit into the time.")
        if rates.is_constant(done, planned):
            module.set_total_steps(steps, done)
        rates.total_steps = steps
        set_max_steps(trainer, steps)
        data.space_validations(steps, done, validations)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._speed.start_validation()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._speed.end_validation()
