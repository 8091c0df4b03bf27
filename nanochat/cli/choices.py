"""What the machine chooses where the user has said nothing: device, precision, number of devices and of steps."""

from __future__ import annotations

from typing import Any

import torch

from nanochat.cli.errors import UsageError
from nanochat.cli.from_checkpoint import SHAPE, FromCheckpoint
from nanochat.cli.stages import REINFORCE
from nanochat.data.step_size import resolve_row_length
from nanochat.model import GPT, resolve_shape
from nanochat.training import compiling
from nanochat.training.hardware import default_accelerator, default_precision
from nanochat.training.sharding import NAME as FSDP2

REINFORCE_STEPS = 300  # where neither steps nor time are given
TOKENS_PER_PARAMETER = 10  # of a run's length, where neither steps nor time are given


class Choices(FromCheckpoint):
    """The part of the command line that fills in what the user, and the checkpoint, have left out."""

    subcommand: Any

    def before_instantiate_classes(self) -> None:
        """Fills in what was left out, so that the saved configuration says what was really used."""
        config = self.config[self.subcommand]
        trainer, data = config.trainer, config.data
        if data.seed is None:
            data.seed = int(config.seed_everything)
        choose_hardware(trainer)
        if trainer.max_epochs not in (-1, None):
            raise UsageError("--trainer.max_epochs: the stream of text has no end; give --trainer.max_steps instead")
        if trainer.max_steps == 0:
            raise UsageError("--trainer.max_steps must be at least 1, not 0")
        if trainer.max_steps == -1 and trainer.max_time is None:
            trainer.max_steps = self._planned_steps(config)
        if config.model.compile and self._stage == REINFORCE:
            raise UsageError("--model.compile: answers are of any length, and each would be compiled for; leave it out")
        if config.model.compile is None:
            config.model.compile = self._compiles(config)
        if str(trainer.strategy).startswith("fsdp") and trainer.strategy != FSDP2:
            raise UsageError(f"--trainer.strategy={trainer.strategy}: Muon needs whole matrices, so take {FSDP2}")
        if trainer.strategy == FSDP2:
            trainer.inference_mode = False  # a weight that was first gathered in that mode can never be trained
        if trainer.devices == "auto" and trainer.accelerator in ("cuda", "gpu"):
            trainer.devices = usable_devices(torch.cuda.device_count(), trainer.num_nodes, data)

    def _compiles(self, config: Any) -> bool:
        """Whether to compile the model: as the run did before, or where it pays."""
        if self.subcommand != "fit" or self._stage == REINFORCE:
            return False
        minutes = config.plan.minutes if config.trainer.max_steps == -1 and config.trainer.max_time is None else None
        if self._compiled_before is not None and self._weights is None:
            return self._compiled_before and compiling.is_possible(config.trainer.accelerator)
        return compiling.pays(config.trainer.accelerator, minutes)

    def _planned_steps(self, config: Any) -> int:
        """What the checkpoint was planned for; -1 where the plan is going to say what fits into its minutes."""
        if self._steps_before > 0 and self._weights is None:
            return self._steps_before
        if self.subcommand == "fit" and config.plan.minutes is not None:
            return -1
        if self._stage == REINFORCE:
            return REINFORCE_STEPS
        return default_steps(config.model, config.data)


def choose_hardware(trainer: Any) -> None:
    """The accelerator and the precision, where the user has not said them."""
    if trainer.accelerator == "auto":
        trainer.accelerator = default_accelerator()
    check_gpu(f"--trainer.accelerator={trainer.accelerator}", trainer.accelerator)
    if trainer.precision is None:
        trainer.precision = default_precision(trainer.accelerator)


def check_gpu(option: str, kind: str) -> None:
    """Refuses a GPU that torch cannot use.

    Args:
        option: as the user wrote it.
        kind: of the device: cuda, mps or another, which is not looked at; Lightning calls the first one gpu as well.

    Raises:
        UsageError: if there is none of that kind.
    """
    if kind in ("cuda", "gpu") and not torch.cuda.is_available():
        raise UsageError(f"{option}: there is no NVIDIA GPU that torch can use; leave the option out to use the CPU")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"{option}: this machine has no Apple GPU that torch can use")


def default_steps(model: Any, data: Any) -> int:
    """As many steps as serve a model of this size best, if nobody minds the time (Chinchilla, arXiv 2203.15556)."""
    shape = resolve_shape(*(model[name] for name in SHAPE[:4]))
    with torch.device("meta"):
        gpt = GPT(shape.depth, data.vocab_size, data.context, shape.width, shape.heads, shape.kv_heads)
    tokens_per_step = data.tokens_per_step or data.batch_size * resolve_row_length(data.row_length, data.context)
    return max(1, TOKENS_PER_PARAMETER * gpt.num_matmul_parameters // tokens_per_step)


def usable_devices(count: int, nodes: int, data: Any) -> int:
    """As many of a node's devices as one step's rows, or its questions, can be dealt out to evenly."""
    if "questions_per_step" in data:
        rows = data.questions_per_step
    elif data.tokens_per_step is None:
        return count
    else:
        rows = max(1, data.tokens_per_step // (data.batch_size * resolve_row_length(data.row_length, data.context)))
    return max((n for n in range(1, count + 1) if rows % (n * nodes) == 0), default=count)
