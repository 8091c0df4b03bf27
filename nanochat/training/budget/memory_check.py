"""Before training: reduces the batch size until the run fits into memory, or refuses the run."""

from __future__ import annotations

import psutil
import torch
from lightning.pytorch import Trainer

from nanochat.training.budget.memory import expected_memory
from nanochat.training.console import say, size
from nanochat.training.hardware import available_memory
from nanochat.training.language_model import LanguageModel
from nanochat.training.trainer_state import data_of

ADVICE = "lower --model.depth or --data.row_length; a smaller batch size is not enough"


def reduce_batch_size(trainer: Trainer, module: LanguageModel) -> None:
    """Splits a step into more micro-steps of fewer rows if the given batch size does not fit; the step is the same.

    Call it when the data module is set up, before Lightning counts micro-steps.
    """
    data = data_of(trainer)
    wanted = data.batch_size
    needed, available = _needed_and_available(trainer, module)
    if _fits(trainer, needed, available):
        return
    for rows in (n for n in range(wanted - 1, 0, -1) if wanted % n == 0):
        data.batch_size = rows
        fits = _fits(trainer, *_needed_and_available(trainer, module))
        data.batch_size = wanted
        if fits:
            data.take_fewer_rows(rows)
            say(
                f"{wanted} rows per micro-step need about {size(needed)} of memory, and {size(available)} are "
                f"available: using {rows} rows, {wanted // rows} times as many micro-steps (the result is the same)."
            )
            return


def check_memory(trainer: Trainer, module: LanguageModel) -> None:
    """Refuses a run that does not fit. On a CPU there is no exception later: the system kills the process.

    Raises:
        ValueError: if the run does not fit, naming the options to lower.
    """
    needed, available = _needed_and_available(trainer, module)
    if not _fits(trainer, needed, available):
        on_each = " on each device" if trainer.world_size > 1 else ""
        raise ValueError(
            f"this run needs about {size(needed)} of memory{on_each} and {size(available)} are available: {ADVICE}"
        )


def _needed_and_available(trainer: Trainer, module: LanguageModel) -> tuple[int, int]:
    """Bytes that the run needs on each device, and that it can have, with what it has allocated so far."""
    device = trainer.strategy.root_device
    if device.type not in ("cpu", "cuda"):
        return 0, 0  # MPS shares the machine's memory, which the system pages; torch raises an error when it is full
    allocated = psutil.Process().memory_info().rss if device.type == "cpu" else torch.cuda.memory_allocated(device)
    processes = trainer.num_devices if device.type == "cpu" else 1  # those of one machine share its memory
    return expected_memory(trainer, module), allocated + available_memory(device) // processes


def _fits(trainer: Trainer, needed: int, available: int) -> bool:
    """Whether the run fits on every device."""
    return trainer.strategy.reduce_boolean_decision(needed <= available)
