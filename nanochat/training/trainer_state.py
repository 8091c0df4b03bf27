"""Reads and changes the state of Lightning's Trainer, in optimizer steps."""

from __future__ import annotations

from typing import TypeVar

from lightning.pytorch import Callback, Trainer

from nanochat.data.data_module import RowsDataModule

AnyCallback = TypeVar("AnyCallback", bound=Callback)


def data_of(trainer: Trainer) -> RowsDataModule:
    """The data module of the run."""
    return trainer.datamodule  # type: ignore[attr-defined, no-any-return]


def find_callback(trainer: Trainer, kind: type[AnyCallback]) -> AnyCallback | None:
    """The trainer's callback of that class, or None."""
    return next((c for c in trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]


def ends_step(trainer: Trainer, batch_idx: int) -> bool:
    """Whether this micro-step was the last one of its step, after which the optimizer has updated the weights."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def logs_step(trainer: Trainer, step: int) -> bool:
    """Whether metrics are logged after this number of steps."""
    return step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]


def validations_left(trainer: Trainer) -> int:
    """Number of validations still to come during the run; 0 if its number of steps is unknown."""
    interval = trainer.val_check_batch
    if trainer.max_steps < 0 or not trainer.enable_validation or interval in (None, float("inf")):
        return 0
    done, all_batches = (n * trainer.accumulate_grad_batches for n in (trainer.global_step, trainer.max_steps))
    assert interval is not None
    return int(all_batches // interval - done // interval)


def set_max_steps(trainer: Trainer, steps: int) -> None:
    """Sets ``trainer.max_steps``, which is read-only: the training loop reads this attribute before each batch.

    Lightning (2.6) has no public way to change the length of a run that has started.
    """
    trainer.fit_loop.epoch_loop.max_steps = steps
