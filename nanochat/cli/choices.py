"""Fills in what the user has left out: device, precision, number of devices, compilation, number of steps."""

from __future__ import annotations

from typing import Any

import torch

from nanochat.cli.errors import UsageError
from nanochat.cli.stages import REINFORCE
from nanochat.cli.starting_point import StartingPoint
from nanochat.data.step_size import resolve_row_length
from nanochat.model import GPT, GPTConfig
from nanochat.training import compiling
from nanochat.training.hardware import default_accelerator, default_precision
from nanochat.training.sharding import NAME as FSDP2

REINFORCE_STEPS = 300  # where neither steps nor minutes are given
TOKENS_PER_PARAMETER = 10  # of a run where neither steps nor minutes are given (Chinchilla, arXiv 2203.15556)


def fill_in(config: Any, command: str, stage: str, start: StartingPoint | None) -> None:
    """Sets every option that was left out, in place, so that the saved configuration records what was used.

    Args:
        config: the configuration of the subcommand.
        command: "fit" or "validate".
        stage: of training.
        start: the checkpoint that the run starts from, if any.

    Raises:
        UsageError: if options cannot work together.
    """
    trainer, data = config.trainer, config.data
    if data.seed is None:
        data.seed = int(config.seed_everything)
    choose_hardware(trainer)
    if trainer.max_epochs not in (-1, None):
        raise UsageError("--trainer.max_epochs: the stream of text has no end; give --trainer.max_steps instead")
    if trainer.max_steps == 0:
        raise UsageError("--trainer.max_steps must be at least 1, not 0")
    if config.model.compile and stage == REINFORCE:
        raise UsageError("--model.compile: answers are of any length, and each would be compiled for; leave it out")
    timed = trainer.max_time is not None
    if config.model.compile is None:
        config.model.compile = command == "fit" and stage != REINFORCE and _compiles(config, start)
    if trainer.max_steps == -1 and not timed:
        trainer.max_steps = _steps(config, command, stage, start)
    if str(trainer.strategy).startswith("fsdp") and trainer.strategy != FSDP2:
        raise UsageError(f"--trainer.strategy={trainer.strategy}: Muon needs whole matrices, so take {FSDP2}")
    if trainer.strategy == FSDP2:
        trainer.inference_mode = False  # a weight that was first gathered in that mode can never be trained
    if trainer.devices == "auto" and trainer.accelerator in ("cuda", "gpu"):
        trainer.devices = usable_devices(torch.cuda.device_count(), trainer.num_nodes, data)


def _compiles(config: Any, start: StartingPoint | None) -> bool:
    """Whether to compile the model: as the run did before, or where it pays."""
    if start is not None and start.resumes:
        return start.compiled and compiling.can_compile(config.trainer.accelerator)
    minutes = config.plan.minutes if config.trainer.max_steps == -1 and config.trainer.max_time is None else None
    return compiling.should_compile(config.trainer.accelerator, minutes)


def _steps(config: Any, command: str, stage: str, start: StartingPoint | None) -> int:
    """The steps of the checkpoint's plan, or default ones; -1 where the plan finds how many fit into its minutes."""
    if start is not None and start.resumes and start.planned_steps > 0:
        return start.planned_steps
    if command == "fit" and config.plan.minutes is not None:
        return -1
    return REINFORCE_STEPS if stage == REINFORCE else default_steps(config.model, config.data)


def choose_hardware(trainer: Any) -> None:
    """Sets the accelerator and the precision where the user has not."""
    if trainer.accelerator == "auto":
        trainer.accelerator = default_accelerator()
    check_gpu(f"--trainer.accelerator={trainer.accelerator}", trainer.accelerator)
    if trainer.precision is None:
        trainer.precision = default_precision(trainer.accelerator)


def check_gpu(option: str, kind: str) -> None:
    """Refuses a GPU that torch cannot use.

    Args:
        option: as the user wrote it.
        kind: of the device: cuda (Lightning also calls it gpu) or mps; others are not checked.

    Raises:
        UsageError: if there is none of that kind.
    """
    if kind in ("cuda", "gpu") and not torch.cuda.is_available():
        raise UsageError(f"{option}: there is no NVIDIA GPU that torch can use; leave the option out to use the CPU")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"{option}: this machine has no Apple GPU that torch can use")


def default_steps(model: Any, data: Any) -> int:
    """The compute-optimal number of steps for a model of this size (Chinchilla, arXiv 2203.15556)."""
    with torch.device("meta"):
        gpt = GPT(GPTConfig.from_hyperparameters({**model, "vocab_size": data.vocab_size, "context": data.context}))
    tokens_per_step = data.tokens_per_step or data.batch_size * resolve_row_length(data.row_length, data.context)
    return max(1, TOKENS_PER_PARAMETER * gpt.num_matmul_parameters // tokens_per_step)


def usable_devices(count: int, nodes: int, data: Any) -> int:
    """The largest number of a node's devices over which a step's rows, or its questions, divide evenly."""
    if "questions_per_step" in data:
        rows = data.questions_per_step
    elif data.tokens_per_step is None:
        return count
    else:
        rows = max(1, data.tokens_per_step // (data.batch_size * resolve_row_length(data.row_length, data.context)))
    return max((n for n in range(1, count + 1) if rows % (n * nodes) == 0), default=count)
