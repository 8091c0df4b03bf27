"""Where the time of one step goes: a few real steps of the run's shape, timed on this machine.

A run logs the time of its steps but not of their phases, because timing these requires a device synchronisation after
each. So the run's own LanguageModel and optimizer take a few steps here, with newly initialised weights and on random
tokens, which cost as much as real ones, under a Lightning profiler. Nothing is saved.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.single_run.bars import stacked_bar
from nanochat.data.synthetic import RandomRows
from nanochat.training.budget.memory import training_memory
from nanochat.training.console import duration, size
from nanochat.training.dry_run import dry_run
from nanochat.training.hardware import (
    available_memory,
    default_precision,
    describe_device,
    matmul_dtype,
    peak_flops,
    synchronize,
)
from nanochat.training.language_model import LanguageModel

TIMED_SECONDS = 2.0  # steps are timed for about this long
MIN_STEPS, MAX_STEPS = 4, 60  # timed steps
WARM_UP = 3  # steps before them
MAX_STEP_SECONDS = 5.0  # a step that is estimated to take longer is not timed
TYPICAL_MFU = 0.15  # for that estimate


class StepProfiler(Profiler):
    """Times Lightning's actions, with a device synchronisation before and after each.

    Attributes:
        durations: seconds of each call, by the last component of the action's name: "training_step", "backward", ...
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.durations: dict[str, list[float]] = defaultdict(list)
        self._started: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        if action_name.endswith(("_step", "backward")):
            synchronize(self.device)
            self._started[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name in self._started:
            synchronize(self.device)
            seconds = time.perf_counter() - self._started.pop(action_name)
            self.durations[action_name.split(".")[-1]].append(seconds)


class StopAfterTimedSteps(Callback):
    """Records when each step starts, and stops training once enough steps are timed.

    Attributes:
        step_starts: start time of each step, of the warm-up too.
    """

    def __init__(self) -> None:
        self.step_starts: list[float] = []

    @property
    def timed_steps(self) -> int:
        """Completed steps after the warm-up."""
        return len(self.step_starts) - 1 - WARM_UP

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            synchronize(trainer.strategy.root_device)
            self.step_starts.append(time.perf_counter())
            if self.timed_steps >= MIN_STEPS and self.step_starts[-1] - self.step_starts[WARM_UP] > TIMED_SECONDS:
                trainer.should_stop = True


def measure_step(history: History, device: torch.device) -> tuple[dict[str, float], int, str]:
    """Mean seconds of each phase of a step.

    Returns:
        Seconds by phase, the number of timed steps, and their precision.

    Raises:
        ValueError: if the shape of the run's steps is not known, or too large for this machine.
    """
    gpt, row_length, batch_size = history.gpt, history.row_length, history.setting("data", "batch_size")
    if gpt is None or row_length is None or not isinstance(batch_size, int):
        raise ValueError("the size of a step is not known: the run's config.yaml is missing or damaged")
    tokens_per_step = history.setting("data", "tokens_per_step")
    micro_steps = max(1, tokens_per_step // (batch_size * row_length)) if isinstance(tokens_per_step, int) else 1
    precision = default_precision(device.type)
    dtype = matmul_dtype(precision)
    needed = training_memory(gpt, batch_size, row_length, dtype.itemsize, on_gpu=device.type == "cuda")
    if needed > 0.8 * available_memory(device):
        raise ValueError(f"steps of this size need {size(needed)} of memory, more than is free on this machine")
    peak = peak_flops(device, dtype) or 0.0
    flops = gpt.flops_per_token(row_length) * micro_steps * batch_size * row_length
    if peak and flops / (TYPICAL_MFU * peak) > MAX_STEP_SECONDS:
        raise ValueError(f"a step of this size would take about {duration(flops / (TYPICAL_MFU * peak))} here")
    names = ("muon_every", "muon_band", "weight_decay")
    settings = {name: value for name in names if (value := history.setting("model", name)) is not None}
    module = LanguageModel(**gpt.config.to_hyperparameters(), **settings, compile=False)  # type: ignore[arg-type]
    rows = RandomRows(gpt.vocab_size, gpt.context, row_length, batch_size, micro_steps * batch_size * row_length)
    log_every = history.setting("trainer", "log_every_n_steps")
    profiler, steps = StepProfiler(device), StopAfterTimedSteps()
    dry_run(
        module,
        rows,
        accelerator=device.type,
        precision=precision,
        max_steps=WARM_UP + MAX_STEPS + 1,
        profiler=profiler,
        callbacks=[steps],
        log_every_n_steps=log_every if isinstance(log_every, int) else 10,
    )
    return _phases(profiler, steps, micro_steps), steps.timed_steps, precision


def _phases(profiler: StepProfiler, steps: StopAfterTimedSteps, micro_steps: int) -> dict[str, float]:
    count = steps.timed_steps
    first, last = WARM_UP * micro_steps, (WARM_UP + count) * micro_steps
    forward, backward = (profiler.durations[name][first:last] for name in ("training_step", "backward"))
    optimizer = profiler.durations["optimizer_step"][WARM_UP : WARM_UP + count]
    # Lightning's optimizer_step calls the forward and backward pass of the step's last micro-step in its closure.
    in_closure = sum(forward[micro_steps - 1 :: micro_steps]) + sum(backward[micro_steps - 1 :: micro_steps])
    phases = {"forward": sum(forward), "backward": sum(backward), "optimizer": sum(optimizer) - in_closure}
    remainder = steps.step_starts[-1] - steps.step_starts[WARM_UP] - sum(phases.values())
    return {name: seconds / count for name, seconds in {**phases, "everything else": remainder}.items()}


def step_time(history: History, device: str) -> Figure:
    """Forward, backward, optimizer, and everything else.

    Raises:
        ValueError: if it cannot be measured on this machine.
    """
    torch_device = torch.device(device)
    phases, count, precision = measure_step(history, torch_device)
    data_wait = history.run.summary.get("data_wait")
    note = ""
    if data_wait:
        phases["waiting for data"] = sum(phases.values()) * data_wait / (1 - data_wait)
        note = " The time spent waiting for data is the share that the run logged."
    tokens_per_second = history.run.summary.get("tokens_per_second")
    tokens_per_step = history.setting("data", "tokens_per_step")
    if tokens_per_second and isinstance(tokens_per_step, int):
        note += f" In the run, a step took {1000 * tokens_per_step / tokens_per_second:,.0f} ms on average."
    total = sum(phases.values())
    rows: list[list[Cell]] = [[name, 1000 * value, 100 * value / total] for name, value in phases.items()]
    caption = (
        f"Measured for this analysis: {count} steps of the run's shape on this machine "
        f"({describe_device(torch_device)}, {precision}, not compiled).{note} Everything else is Lightning's "
        "loop, its hooks and the logging, which take the largest share in the smallest models. With more tokens per "
        "step, they and the optimizer cost less per token. The gradient of the output head is computed in the forward "
        "pass, together with the loss."
    )
    return Figure(
        name="step_time",
        title="Where the time of a step goes",
        caption=caption,
        draw=lambda: stacked_bar([(name, 1000 * value) for name, value in phases.items()], "time of a step (ms)"),
        table=Table(["phase", "time (ms)", "share (%)"], rows),
        section="Speed and memory",
    )
