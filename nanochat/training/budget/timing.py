"""How long a step and a score take: a few real ones that leave no trace."""

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

STEP_SECONDS, SHORT_SECONDS = 0.5, 0.1  # micro-steps, and all else, are timed for about this long
SLOW = 2.0  # seconds; what takes longer is timed twice, all else three times or more


class StepTimes(NamedTuple):
    """Seconds.

    Attributes:
        step: to train a step.
        token: to score a held-out token.
    """

    step: float
    token: float


def time_step(trainer: Trainer, module: LanguageModel) -> StepTimes:
    """Takes the times of a few real steps that leave no trace.

    The optimizer runs with a learning rate of zero and a state of its own, so weights and state stay what they are.
    """
    optimizer = trainer.strategy.optimizers[0]
    averages = module.training_averages()
    batch = module.example_batch()

    def last_micro_step() -> None:
        optimizer.zero_grad()
        loss = trainer.strategy.training_step(batch, 0)
        assert isinstance(loss, Tensor)
        loss.backward()  # under DDP, gradients travel meanwhile

    def micro_step() -> None:
        with block_gradients():
            last_micro_step()

    block_gradients = getattr(trainer.strategy, "block_backward_sync", nullcontext)  # Lightning's, where there are many
    if module.gpt.compiled_block is not None:
        compile_model(module, last_micro_step)

    state, rates = optimizer.state, [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    period = max(group["every"] for group in optimizer.param_groups)  # steps until all parameters have moved

    def update_all() -> None:
        for _ in range(period):
            optimizer.step()

    def step_seconds() -> float:
        micro = last = _usual_seconds(trainer, last_micro_step, STEP_SECONDS)
        if trainer.world_size > 1 and trainer.accumulate_grad_batches > 1:
            micro = _usual_seconds(trainer, micro_step, STEP_SECONDS)
        optimizer.state = defaultdict(dict)
        update = _usual_seconds(trainer, update_all, SHORT_SECONDS) / period
        return micro * (trainer.accumulate_grad_batches - 1) + last + update

    step = step_seconds()
    optimizer.state = state
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    optimizer.zero_grad()
    token = time_scoring(trainer, module) / trainer.world_size
    module.take_training_averages(averages)
    return StepTimes(step, token)


def time_scoring(trainer: Trainer, module: LanguageModel) -> float:
    """Seconds in which one device scores a held-out token."""
    data = data_of(trainer)
    length = data.held_out.length
    rows = random_batch(data.vocab_size, max(1, VAL_BATCH_TOKENS // 2 // length), length, trainer.strategy.root_device)

    def score() -> None:
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            module.gpt.losses(*rows)

    seconds = _usual_seconds(trainer, score, SHORT_SECONDS)
    reshard(module.gpt)
    return seconds / rows[0].numel()


def _usual_seconds(trainer: Trainer, work: Callable[[], object], least: float) -> float:
    """The median of several times, over about so many seconds or more."""
    device = trainer.strategy.root_device

    def once() -> float:
        started = time.perf_counter()
        work()
        synchronize(device)
        return time.perf_counter() - started

    once()  # the first time is slow: memory is taken, kernels are chosen
    first = once()
    # All devices as often as the first one says, because they may have to wait for each other. Never once alone: if
    # something else had the processor just then, a whole run would be planned by it.
    more = trainer.strategy.broadcast(max(2 if first < SLOW else 1, int(least / first)))
    return statistics.median_low([first, *(once() for _ in range(more))])
