"""The size of an optimizer step: rows per micro-step, and micro-steps per step (gradient accumulation)."""

from __future__ import annotations

from lightning.pytorch import Trainer


def resolve_row_length(row_length: int | None, context: int) -> int:
    """Tokens in a training row: the requested number, or the context; at most the context."""
    return min(row_length or context, context)


def count_micro_steps(tokens_per_step: int | None, batch_size: int, row_length: int, world_size: int = 1) -> int:
    """Micro-steps that make one optimizer step.

    Args:
        tokens_per_step: tokens per optimizer step, over all devices; None for one micro-step.
        batch_size: rows per device and micro-step.
        row_length: tokens in a row.
        world_size: number of devices.

    Raises:
        ValueError: if the step does not divide into micro-steps. The message names sizes that work.
    """
    if tokens_per_step is None:
        return 1
    micro = batch_size * row_length * world_size
    if tokens_per_step % micro:
        devices = f" on {world_size} devices" if world_size > 1 else ""
        step = max(1, round(tokens_per_step / micro)) * micro
        raise ValueError(
            f"a step of {tokens_per_step:,} tokens does not divide into micro-steps of {batch_size} rows of "
            f"{row_length}{devices}: set --data.tokens_per_step={step}, or another --data.batch_size"
        )
    return tokens_per_step // micro


def accumulate(trainer: Trainer, micro_steps: int) -> None:
    """Sets the micro-steps per optimizer step; validations stay after the same number of steps."""
    before, trainer.accumulate_grad_batches = trainer.accumulate_grad_batches, micro_steps
    if isinstance(trainer.val_check_interval, int):  # counted in micro-steps
        trainer.val_check_interval = trainer.val_check_interval * micro_steps // before
