"""FSDP2: weights, gradients and optimizer state are sharded over the devices."""

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

    (Lightning's ``fsdp`` strategy is FSDP1, which flattens a block's weights into one vector; Muon needs matrices.)

    A checkpoint is one file with whole tensors, so that a run can be resumed with DDP or on one device, and vice versa.
    It is gathered on rank 0, whose machine needs memory for it.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes  # Lightning's "auto" takes the number of nodes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads only tensors and plain values. (Lightning does not use the checkpoint plugin here.)"""
        return super().load_checkpoint(checkpoint_path, weights_only=True)


StrategyRegistry.register(NAME, FullyShardedStrategy, "FSDP2 over all devices, with checkpoints in one file")


def shard(gpt: GPT, mesh: DeviceMesh, precision: str) -> None:
    """Shards the model over the devices of the mesh, in place; does nothing if it is sharded already.

    The weights of a block are gathered before it runs and freed afterwards; embedding and head stay gathered from the
    forward pass to the backward pass. Gradients are reduced over the devices after each micro-step: unsharded gradients
    would need the memory that sharding saves.

    Args:
        gpt: the model.
        mesh: one-dimensional.
        precision: of the Trainer. With "bf16-mixed", weights are gathered in bfloat16 and gradients reduced in float32.
    """
    if isinstance(gpt, FSDPModule):
        return
    mixed = precision == "bf16-mixed"
    param_dtype, reduce_dtype = (torch.bfloat16, torch.float32) if mixed else (None, None)
    # the inputs have the right dtypes: the loss weights must stay in float32
    policy = MixedPrecisionPolicy(param_dtype, reduce_dtype, cast_forward_inputs=False)
    for block in gpt.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(gpt, mesh=mesh, mp_policy=policy)
    for name in ("loss", "losses"):  # methods that need gathered weights, like forward()
        register_fsdp_forward_method(gpt, name)


def reshard(gpt: GPT) -> None:
    """Frees weights that a forward pass without backward pass has left gathered; a checkpoint can be loaded then."""
    if isinstance(gpt, FSDPModule):
        gpt.reshard()
