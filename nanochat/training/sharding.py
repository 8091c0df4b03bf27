"""FSDP: each device holds a part of the weights, of the gradients and of the optimizer's state."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from nanochat.model import GPT

NAME = "fsdp2"  # --trainer.strategy=fsdp2


class FullyShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, over all devices of all nodes, with ordinary checkpoints.

    (Lightning's ``fsdp`` is the first FSDP, which lays all weights of a block end to end: Muon could not see matrices.)

    A checkpoint is one file with whole tensors, so that a run may go on under DDP or on one device, and the other way
    round. It is gathered on the first process, whose machine needs memory for it.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes  # Lightning's "auto" is the number of nodes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads nothing but tensors and plain values. (Lightning does not ask the checkpoint plugin here.)"""
        return super().load_checkpoint(checkpoint_path, weights_only=True)


StrategyRegistry.register(NAME, FullyShardedStrategy, "FSDP2 over all devices, with checkpoints in one file")


def shard(gpt: GPT, mesh: DeviceMesh, precision: str) -> None:
    """Deals out the model's rows to the devices of the mesh, in place; does nothing if that has been done.

    A block's matrices are gathered when its turn comes and let go afterwards; embedding and head, which are needed
    first and last, stay from the forward pass to the backward pass. Gradients are summed over the devices after each
    micro-step: to keep them whole until the step ends would take the memory that sharding saves.

    Args:
        gpt: the model.
        mesh: of one dimension.
        precision: of the Trainer. In "bf16-mixed" weights travel in bfloat16 and gradients are summed in float32.
    """
    if isinstance(gpt, FSDPModule):
        return
    mixed = precision == "bf16-mixed"
    # what comes in is of the right precision already: the weights of the losses have to stay in float32
    in_use, summed = (torch.bfloat16, torch.float32) if mixed else (None, None)
    policy = MixedPrecisionPolicy(in_use, summed, cast_forward_inputs=False)
    for block in gpt.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(gpt, mesh=mesh, mp_policy=policy)
    for entry in ("loss", "losses"):  # beside forward(), where weights must be gathered too
        register_fsdp_forward_method(gpt, entry)


def reshard(gpt: GPT) -> None:
    """Lets go of weights that a forward pass with no backward pass has left gathered: a checkpoint may come in now."""
    if isinstance(gpt, FSDPModule):
        gpt.reshard()
