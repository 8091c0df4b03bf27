"""This process among all processes of a run."""

from __future__ import annotations

from typing import NamedTuple

from lightning.pytorch import Trainer


class Rank(NamedTuple):
    """This process among all processes of the run.

    Attributes:
        number: from 0.
        world_size: number of processes.
        is_cuda: whether it trains on a GPU.
    """

    number: int
    world_size: int
    is_cuda: bool


def rank_of(trainer: Trainer | None) -> Rank:
    """The rank of this process; without a Trainer it is the only process."""
    if trainer is None:
        return Rank(0, 1, False)
    return Rank(trainer.global_rank, trainer.world_size, trainer.strategy.root_device.type == "cuda")
