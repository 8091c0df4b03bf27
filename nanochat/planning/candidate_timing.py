"""Times training steps of a candidate on this machine: real steps of Lightning's loop on random tokens."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from nanochat.data.synthetic import RandomRows
from nanochat.planning.candidates import Candidate
from nanochat.training.budget.memory import expected_memory
from nanochat.training.budget.timing import time_scoring, time_step
from nanochat.training.dry_run import dry_run
from nanochat.training.hardware import synchronize
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import ends_step

SECONDS = 1.2  # duration of the timing
MIN_INTERVALS, MAX_SECONDS = 4, 3.0  # it goes on until there are enough intervals, but not beyond this duration
QUANTILE = 0.25  # of the times, taken as the step time: slower steps may have shared the processor
BUSY = 1.6  # the machine is busy if the median step takes this much longer than the quantile


class Timing(NamedTuple):
    """The measured cost of a candidate.

    Attributes:
        step_seconds: seconds per training step.
        token_seconds: seconds to score a held-out token.
        memory: expected peak memory of a run, in bytes.
        parameters: number of parameters.
        busy: whether other programs seemed to use the machine.
    """

    step_seconds: float
    token_seconds: float
    memory: float
    parameters: int
    busy: bool = False


class _StepTimer(Callback):
    """Times training steps, in intervals from one Muon update to the next."""

    def __init__(self) -> None:
        self.timing: Timing | None = None
        self.compiled = False
        self._period = 1  # steps in an interval
        self._marks: list[float] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        if pl_module.gpt.compiled_block is not None:
            time_step(trainer, pl_module)  # compiles the model, as `fit` does
        self.compiled = pl_module.gpt.compiled_block is not None
        self._period = max(group["every"] for group in trainer.optimizers[0].param_groups)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not ends_step(trainer, batch_idx) or trainer.global_step % self._period:
            return
        synchronize(trainer.strategy.root_device)
        self._marks.append(time.perf_counter())
        elapsed, intervals = self._marks[-1] - self._marks[0], len(self._marks) - 1
        if (elapsed >= SECONDS and intervals >= MIN_INTERVALS) or (elapsed >= MAX_SECONDS and intervals >= 1):
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        marks = torch.tensor(self._marks, dtype=torch.float64)
        times = marks.diff() / self._period
        step, median = (float(times.quantile(q)) for q in (QUANTILE, 0.5))
        token, memory = time_scoring(trainer, pl_module), expected_memory(trainer, pl_module)
        self.timing = Timing(step, token, memory, pl_module.gpt.num_parameters, median > BUSY * step)


def time_candidate(candidate: Candidate, accelerator: str, precision: str, compiled: bool = False) -> Timing | None:
    """Times a candidate; None if it was to be compiled and could not be.

    Args:
        candidate: the model and its batch size.
        accelerator: "cpu", "cuda" or "mps".
        precision: as the Trainer takes it.
        compiled: whether to compile the model first.
    """
    data, timer = RandomRows(**candidate.data), _StepTimer()
    module = LanguageModel(**candidate.model, vocab_size=data.vocab_size, context=data.context, compile=compiled)
    dry_run(module, data, accelerator=accelerator, precision=precision, max_epochs=-1, callbacks=[timer])
    return None if compiled and not timer.compiled else timer.timing


def interpolate(vocab_size: int, smaller: tuple[int, Timing], larger: tuple[int, Timing]) -> Timing:
    """The timing for another vocabulary, on the line through two: embedding and head grow in proportion to it."""
    (low, a), (high, b) = smaller, larger
    position = (vocab_size - low) / (high - low)

    def mix(x: float, y: float) -> float:
        return x + position * (y - x)

    return Timing(
        mix(a.step_seconds, b.step_seconds),
        mix(a.token_seconds, b.token_seconds),
        mix(a.memory, b.memory),
        round(mix(a.parameters, b.parameters)),
    )
