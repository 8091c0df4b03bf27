"""The processes that score together, where there are several."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def gather(mine: Any) -> list[Any]:
    """What every process has, in the order of their ranks. All must ask."""
    everyone: list[Any] = [mine] * world_size()
    if len(everyone) > 1:
        dist.all_gather_object(everyone, mine)
    return everyone
