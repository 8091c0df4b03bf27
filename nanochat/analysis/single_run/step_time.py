"""Where the time of one step goes: a few real steps of the run's shape, timed on this machine.

A run logs how long its steps take, but not their parts: to time these, the device would have to stop after each. So
the run's own LanguageModel with its optimizer takes a few steps here, from fresh weights and on random tokens, which
are as much work as real ones, under a profiler of Lightning's kind. Nothing of it is kept.
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
from nanochat.training.bare import fit_bare
from nanochat.training.console import duration, size
from nanochat.training.hardware import (
    available_memory,
    default_precision,
    describe,
    peak_flops,
    product_dtype,
    synchronize,
)
from nanochat.training.language_model import LanguageModel
from nanochat.training.memory import training_memory

SECONDS = 2.0  # for about this long steps are timed
LEAST, MOST = 4, 60  # steps that are timed
WARM_UP = 3  # steps before them
LONGEST = 5.0  # seconds that a step may take: a larger one is not timed
USUAL_SHARE = 0.15  # of the machine's peak, by which that is guessed beforehand


class StepProfiler(Profiler):
    """Times what Lightning does, with the device's work to its end.

    Attributes:
        spent: seconds of each call, by the last part of the action's name: "training_step", "backward", ...
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.durations: dict[str, list[float]] = defaultdict(list)
        self._began: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        if action_name.endswith(("_step", "backward")):
            synchronize(self.device)
            self._began[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name in self._began:
            synchronize(self.device)
            self.durations[action_name.split(".")[-1]].append(time.perf_counter() - self._began.pop(action_name))


class StopAfterTimedSteps(Callback):
    """Ends training when enough steps are timed, and knows when each began."""

    def __init__(self) -> None:
        self.began: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            synchronize(trainer.strategy.root_device)
            self.began.append(time.perf_counter())
            timed = len(self.began) - 1 - WARM_UP
            if timed >= LEAST and self.began[-1] - self.began[WARM_UP] > SECONDS:
                trainer.should_stop = True


def measure_step(history: History, device: torch.device) -> tuple[dict[str, float], int, str]:
    """Seconds that each part of a step takes, on average.

    Returns:
        The parts by name, how many steps were timed, and at which precision.

    Raises:
        ValueError: if the run's shape is not known, or too large for this machine.
    """
    gpt, row_length, batch_size = history.gpt, history.row_length, history.setting("data", "batch_size")
    if gpt is None or row_length is None or not isinstance(batch_size, int):
        raise ValueError("the run's configuration, which says the size of a step, is not there")
    per_step = history.setting("data", "tokens_per_step")
    micro_steps = max(1, per_step // (batch_size * row_length)) if isinstance(per_step, int) else 1
    precision = default_precision(device.type)
    dtype = product_dtype(precision)
    needed = training_memory(gpt, batch_size, row_length, dtype.itemsize, on_gpu=device.type == "cuda")
    if needed > 0.8 * available_memory(device):
        raise ValueError(f"steps of this size need {size(needed)} of memory, more than is free here")
    peak = peak_flops(device, dtype) or 0.0
    flops = gpt.flops_per_token(row_length) * micro_steps * batch_size * row_length
    if peak and flops / (USUAL_SHARE * peak) > LONGEST:
        raise ValueError(f"a step of this size would take about {duration(flops / (USUAL_SHARE * peak))} here")
    known = ("muon_every", "muon_band", "weight_decay")
    settings = {name: value for name in known if (value := history.setting("model", name)) is not None}
    module = LanguageModel(**gpt.config.to_hyperparameters(), **settings, compile=False)  # type: ignore[arg-type]
    rows = RandomRows(gpt.vocab_size, gpt.context, row_length, batch_size, micro_steps * batch_size * row_length)
    every = history.setting("trainer", "log_every_n_steps")
    profiler, steps = StepProfiler(device), StopAfterTimedSteps()
    fit_bare(
        module,
        rows,
        accelerator=device.type,
        precision=precision,
        max_steps=WARM_UP + MOST + 1,
        profiler=profiler,
        callbacks=[steps],
        log_every_n_steps=every if isinstance(every, int) else 10,
    )
    timed = len(steps.began) - 1 - WARM_UP
    return _breakdown(profiler, steps.began[WARM_UP:], micro_steps, timed), timed, precision


def _breakdown(profiler: StepProfiler, began: list[float], micro_steps: int, timed: int) -> dict[str, float]:
    first, last = WARM_UP * micro_steps, (WARM_UP + timed) * micro_steps
    forward, backward = (profiler.durations[name][first:last] for name in ("training_step", "backward"))
    whole = profiler.durations["optimizer_step"][WARM_UP : WARM_UP + timed]
    # Lightning's optimizer_step runs the last micro-step of each step within itself
    within = sum(forward[micro_steps - 1 :: micro_steps]) + sum(backward[micro_steps - 1 :: micro_steps])
    parts = {"forward": sum(forward), "backward": sum(backward), "optimizer": sum(whole) - within}
    rest = began[-1] - began[0] - sum(parts.values())
    return {name: seconds / timed for name, seconds in {**parts, "around them": rest}.items()}


def step_time(history: History, device: str) -> Figure:
    """Forward, backward, optimizer, and what is around them.

    Raises:
        ValueError: if it cannot be measured here.
    """
    where = torch.device(device)
    parts, timed, precision = measure_step(history, where)
    waiting = history.run.summary.get("data_wait")
    note = ""
    if waiting:
        parts["waiting for text"] = sum(parts.values()) * waiting / (1 - waiting)
        note = " The wait for text is the run's own share of time."
    per_second, rows_of = history.run.summary.get("tokens_per_second"), history.setting("data", "tokens_per_step")
    if per_second and isinstance(rows_of, int):
        note += f" In the run itself a step took {1000 * rows_of / per_second:,.0f} ms on average."
    whole = sum(parts.values())
    rows: list[list[Cell]] = [[name, 1000 * value, 100 * value / whole] for name, value in parts.items()]
    caption = (
        f"Measured for this analysis: {timed} steps of the run's shape on this machine ({describe(where)}, "
        f"{precision}, not compiled).{note} Around forward, backward and optimizer are the "
        "trainer, its hooks and the logs, which weigh most in the smallest models; larger steps make them, and the "
        "optimizer, cheaper per token. (The head's gradient is taken in the forward pass already.)"
    )
    return Figure(
        name="step_time",
        title="Where the time of a step goes",
        caption=caption,
        draw=lambda: stacked_bar([(name, 1000 * value) for name, value in parts.items()], "time of a step (ms)"),
        table=Table(["part", "time (ms)", "share (%)"], rows),
        section="Speed and memory",
    )
