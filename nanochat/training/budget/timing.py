"""Benchmarks a training step and a validation token with a few real ones, without changing the run."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from nanochat.data.synthetic import random_batch
from nanochat.data.tokens.batches import VAL_BATCH_TOKENS
from nanochat.training.compiling import compile_model
from nanochat.training.hardware import synchronize
from nanochat.training.language_model import LanguageModel
from nanochat.training.sharding import reshard
from nanochat.training.trainer_state import data_of

STEP_SECONDS, SHORT_SECONDS = 0.5, 0.1  # duration of the benchmark of micro-steps, and of everything else
SLOW_SECONDS = 2.0  # anything slower is timed twice; everything else at least three times


class StepTimes(NamedTuple):
    """Benchmarked times in seconds.

    Attributes:
        step: of a training step.
        token: of a held-out token in validation.
    """

    step: float
    token: float


def time_step(trainer: Trainer, module: LanguageModel) -> StepTimes:
    """Times a training step and a validation token.

    The optimizer runs with a learning rate of zero and a temporary state, so weights and state stay as they are.
    """
    assert module.averages is not None
    averages = module.averages.state_dict()
    step = _time_training(trainer, module)
    token = time_scoring(trainer, module) / trainer.world_size
    module.averages.load_state_dict(averages)
    return StepTimes(step, token)


def _time_training(trainer: Trainer, module: LanguageModel) -> float:
    """Seconds of a training step: all its micro-steps and the optimizer's update."""
    optimizer, batch = trainer.strategy.optimizers[0], module.example_batch()
    without_sync = getattr(trainer.strategy, "block_backward_sync", nullcontext)  # only multi-device strategies have it

    def last_micro_step() -> None:
        optimizer.zero_grad()
        loss = trainer.strategy.training_step(batch, 0)
        assert isinstance(loss, Tensor)
        loss.backward()  # DDP reduces gradients at the same time

    def micro_step() -> None:
        with without_sync():
            last_micro_step()

    if module.gpt.compiled_block is not None:
        compile_model(module, last_micro_step)
    state, rates = optimizer.state, [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    period = max(group["every"] for group in optimizer.param_groups)  # steps until every parameter has been updated

    def update() -> None:
        for _ in range(period):
            optimizer.step()

    micro = last = _median_seconds(trainer, last_micro_step, STEP_SECONDS)
    if trainer.world_size > 1 and trainer.accumulate_grad_batches > 1:
        micro = _median_seconds(trainer, micro_step, STEP_SECONDS)
    optimizer.state = defaultdict(dict)
    update_seconds = _median_seconds(trainer, update, SHORT_SECONDS) / period
    optimizer.state = state
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    optimizer.zero_grad()
    return micro * (trainer.accumulate_grad_batches - 1) + last + update_seconds


def time_scoring(trainer: Trainer, module: LanguageModel) -> float:
    """Seconds that one device needs for a held-out token in validation."""
    data = data_of(trainer)
    length = data.held_out.length
    rows = random_batch(data.vocab_size, max(1, VAL_BATCH_TOKENS // 2 // length), length, trainer.strategy.root_device)

    def score() -> None:
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            module.gpt.losses(*rows)

    seconds = _median_seconds(trainer, score, SHORT_SECONDS)
    reshard(module.gpt)
    return seconds / rows[0].numel()


def _median_seconds(trainer: Trainer, work: Callable[[], object], duration: float) -> float:
    """The median time of several runs of ``work``, which together take about ``duration`` seconds or more."""
    device = trainer.strategy.root_device

    def time_once() -> float:
        started = time.perf_counter()
        work()
        synchronize(device)
        return time.perf_counter() - started

    time_once()  # the first run is slow: it allocates memory and selects kernels
    first = time_once()
    # The same count on all devices, because they may wait for each other. At least two in total: another program may
    # have used the processor during the first one, and the whole run is planned with the result.
    more = trainer.strategy.broadcast(max(2 if first < SLOW_SECONDS else 1, int(duration / first)))
    return statistics.median_low([first, *(time_once() for _ in range(more))])
