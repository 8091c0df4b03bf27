"""How long a step takes on this machine: a few real ones, by Lightning's own loop, on rows of random tokens."""

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

SECONDS = 1.2  # that steps are timed for
LEAST, MOST = 4, 3.0  # moves of all weights at least, but no more seconds than that
QUIET = 0.25  # this quantile of the times counts: in the others something else may have had the processor
BUSY = 1.6  # times its value is what half of the steps take, if something else runs beside


class Timing(NamedTuple):
    """What a candidate takes.

    Attributes:
        step_seconds: to train one step.
        token_seconds: to score one held-out token.
        memory: bytes of a run at its peak.
        parameters: of the model, its tables included.
        matmul_parameters: those without the tables.
        busy: whether something else took much of the machine meanwhile.
    """

    step_seconds: float
    token_seconds: float
    memory: float
    parameters: int
    matmul_parameters: int
    busy: bool = False


class _Clock(Callback):
    """Times the steps of the real loop, each together with those after which all weights have moved."""

    def __init__(self) -> None:
        self.timing: Timing | None = None
        self.compiled = False
        self._period = 1
        self._marks: list[float] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        if pl_module.gpt.compiled_block is not None:
            time_step(trainer, pl_module)  # compiles it, as `fit` does
        self.compiled = pl_module.gpt.compiled_block is not None
        self._period = max(group["every"] for group in trainer.optimizers[0].param_groups)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not ends_step(trainer, batch_idx) or trainer.global_step % self._period:
            return
        synchronize(trainer.strategy.root_device)
        self._marks.append(time.perf_counter())
        spent = self._marks[-1] - self._marks[0]
        if (spent >= SECONDS and len(self._marks) > LEAST) or (spent >= MOST and len(self._marks) > 1):
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, LanguageModel)
        marks = torch.tensor(self._marks, dtype=torch.float64)
        times = (marks.diff() / self._period).sort().values
        step, usual = (float(times.quantile(q)) for q in (QUIET, 0.5))
        gpt = pl_module.gpt
        token, memory = time_scoring(trainer, pl_module), expected_memory(trainer, pl_module)
        self.timing = Timing(step, token, memory, gpt.num_parameters, gpt.num_matmul_parameters, usual > BUSY * step)


def time_candidate(candidate: Candidate, accelerator: str, precision: str, compiled: bool = False) -> Timing | None:
    """Times a candidate; None where its compiled model was asked for and could not be compiled.

    Args:
        candidate: what to time.
        accelerator: "cpu", "cuda" or "mps".
        precision: as the Trainer takes it.
        compiled: whether to compile it first.
    """
    data, clock = RandomRows(**candidate.data), _Clock()
    module = LanguageModel(**candidate.model, vocab_size=data.vocab_size, context=data.context, compile=compiled)
    dry_run(module, data, accelerator=accelerator, precision=precision, max_epochs=-1, callbacks=[clock])
    return None if compiled and not clock.compiled else clock.timing


def between(vocab_size: int, smaller: tuple[int, Timing], larger: tuple[int, Timing]) -> Timing:
    """The timing at another vocabulary, on a line through two: the head and the tables grow in proportion to it."""
    (low, a), (high, b) = smaller, larger
    share = (vocab_size - low) / (high - low)

    def mix(x: float, y: float) -> float:
        return x + share * (y - x)

    return Timing(
        mix(a.step_seconds, b.step_seconds),
        mix(a.token_seconds, b.token_seconds),
        mix(a.memory, b.memory),
        round(mix(a.parameters, b.parameters)),
        round(mix(a.matmul_parameters, b.matmul_parameters)),
    )
