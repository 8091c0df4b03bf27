"""Where in a run the trainer stands, in steps of the optimizer."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from nanochat.data.data_module import RowsDataModule

AnyCallback = TypeVar("AnyCallback", bound=Callback)


def data_of(trainer: Trainer) -> RowsDataModule:
    """What the run learns from."""
    return trainer.datamodule  # type: ignore[attr-defined, no-any-return]


def ends_step(trainer: Trainer, batch_idx: int) -> bool:
    """Whether this micro-step was the last of its step: the optimizer has just moved the weights."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def any_rank(trainer: Trainer, flag: bool) -> bool:
    """Whether the flag is set on any rank: what all of them must do together. Every rank has to ask, and waits."""
    return flag if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(flag, all=False)


class AnyRank:
    """:func:`any_rank` for every step: with several ranks it gives the answer to the question before.

    That one has arrived by now. To wait for the new one, a GPU would have to finish all that it was given, and then
    have nothing to do until it is given more.
    """

    def __init__(self) -> None:
        self._answer: Tensor | None = None  # on its way to this processor
        self._arrival: torch.cuda.Event | None = None

    def ask(self, trainer: Trainer, flag: bool) -> bool:
        """Whether the flag was set on any rank when this was asked the last time; of one rank alone, whether it is."""
        if trainer.world_size == 1:
            return flag
        if self._arrival is not None:
            self._arrival.synchronize()
        before = self._answer is not None and bool(self._answer)
        asked = torch.full((), int(flag), device=trainer.strategy.root_device)
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        self._answer = asked.to("cpu", non_blocking=True)
        if asked.is_cuda:
            self._arrival = torch.cuda.Event()
            self._arrival.record()
        return before


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
