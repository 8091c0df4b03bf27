"""Whether a flag is set on any rank (process) of a run, so that all ranks act on it in the same step."""

from __future__ import annotations

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor


def any_rank(trainer: Trainer, flag: bool) -> bool:
    """Whether the flag is set on any rank. Every rank has to call it, and waits for the others."""
    return flag if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(flag, all=False)


class DelayedAnyRank:
    """Like :func:`any_rank`, for every step: with several ranks it returns the result of the previous call.

    That result has arrived by now. To wait for the present one, a GPU would have to finish its queue, and would then be
    idle until the CPU has queued the next kernels.
    """

    def __init__(self) -> None:
        self._result: Tensor | None = None  # on the CPU, perhaps still being copied
        self._copied: torch.cuda.Event | None = None

    def ask(self, trainer: Trainer, flag: bool) -> bool:
        """Whether the flag was set on any rank at the last call; in a single process, whether it is set now."""
        if trainer.world_size == 1:
            return flag
        if self._copied is not None:
            self._copied.synchronize()
        previous = self._result is not None and bool(self._result)
        reduced = torch.full((), int(flag), device=trainer.strategy.root_device)
        dist.all_reduce(reduced, dist.ReduceOp.MAX)
        self._result = reduced.to("cpu", non_blocking=True)
        if reduced.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()
        return previous
