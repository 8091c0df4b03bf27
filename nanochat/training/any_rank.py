"""Whether a flag is set on any process of a run, so that all of them act on it together."""

from __future__ import annotations

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor


def any_rank(trainer: Trainer, flag: bool) -> bool:
    """Whether the flag is set on any rank: what all of them must do together. Every rank has to ask, and waits."""
    return flag if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(flag, all=False)


class DelayedAnyRank:
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
