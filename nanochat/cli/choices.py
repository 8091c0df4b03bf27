"""What the machine chooses where the user has said nothing: device, precision, number of devices and of steps."""

from __future__ import annotations

from typing import Any

import torch

from nanochat.cli.errors import UsageError
from nanochat.cli.from_checkpoint import SHAPE
from nanochat.data.module import resolve_row_length
from nanochat.model import GPT, resolve_shape
from nanochat.training.hardware import default_accelerator, default_precision

TOKENS_PER_PARAMETER = 10  # of a run's length, where neither steps nor time are given


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
        return max((n for n in range(1, count + 1) if rows % (n * nodes) == 0), default=count)
    if data.tokens_per_step is None:
        return count
    rows = max(1, data.tokens_per_step // (data.batch_size * resolve_row_length(data.row_length, data.context)))
    return max((n for n in range(1, count + 1) if rows % (n * nodes) == 0), default=count)
