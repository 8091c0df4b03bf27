"""Where in a run the trainer stands, in steps of the optimizer."""

from __future__ import annotations

from typing import TypeVar

from lightning.pytorch import Callback, Trainer

from nanochat.data.data_module import RowsDataModule

AnyCallback = TypeVar("AnyCallback", bound=Callback)


def data_of(trainer: Trainer) -> RowsDataModule:
    """What the run learns from."""
    return trainer.datamodule  # type: ignore[attr-defined, no-any-return]


def ends_step(trainer: Trainer, batch_idx: int) -> bool:
    """Whether this micro-step was the last of its step: the optimizer has just moved the weights."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def logs_step(trainer: Trainer, step: int) -> bool:
    """Whether what is known after that many steps is to be logged."""
    return step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]


def validations_left(trainer: Trainer) -> int:
    """How many validations are still to come during the run; 0 where nobody knows when it ends."""
    interval = trainer.val_check_batch
    if trainer.max_steps < 0 or not trainer.enable_validation or interval in (None, float("inf")):
        return 0
    done, all_batches = (n * trainer.accumulate_grad_batches for n in (trainer.global_step, trainer.max_steps))
    assert interval is not None
    return int(all_batches // interval - done // interval)


def find_callback(trainer: Trainer, kind: type[AnyCallback]) -> AnyCallback | None:
    """The trainer's callback of that class, or None."""
    return next((c for c in trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]
