"""Distributed Muon: each process orthogonalizes its share of the matrices and sends the results to the others.

Orthogonalizing a matrix takes about 30 x rows x columns x min(rows, columns) operations, and the other processes need
only the result. So the matrices are assigned round-robin. Two layouts are supported:

* replicated (DDP): every process holds whole matrices; each works on its share, then an all-gather;
* sharded (FSDP): every process holds some rows of each matrix; an all-to-all collects the missing rows of its share,
  and another one returns the results.

Communication uses the precision of the matrix products. Sharing the work pays even between two processes on one CPU
(one thread each, gloo, float32, November 2026): an optimizer step takes 202 ms instead of 377 at tiny's shape and 842
instead of 1,537 at small's; with one block of width 64 it takes 8.7 instead of 8.1. So it does not depend on the size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from nanochat.optim.muon import orthogonalize

all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)  # its name since torch 2.13, and before


def assign(first: int, count: int, world_size: int) -> list[int]:
    """The rank that owns each of ``count`` matrices, after ``first`` others have been assigned.

    Continuing where the last shape ended keeps the load balanced: over all shapes together, as within one shape, no
    rank owns more than one matrix more than another.
    """
    return [(first + i) % world_size for i in range(count)]


def local(tensor: Tensor) -> Tensor:
    """The local part of a tensor: this process's rows of a DTensor, else the tensor. Shares the memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_group(parameters: Iterable[Tensor]) -> dist.ProcessGroup | None:
    """The process group over which the parameters are sharded; None if every process holds them whole.

    Raises:
        ValueError: if they are sharded in any other way than by rows over one process group.
    """
    parameters = list(parameters)
    sharded = [p for p in parameters if isinstance(p, DTensor)]
    if not sharded:
        return None
    mesh = sharded[0].device_mesh
    if len(sharded) < len(parameters) or any(p.device_mesh != mesh or p.placements != (Shard(0),) for p in sharded):
        raise ValueError("Muon works on matrices that are all whole, or all sharded by rows over the same processes")
    group: dist.ProcessGroup = mesh.get_group()
    return group


class _AllGather(NamedTuple):
    """A pending all-gather of the results of one shape."""

    owners: list[int]
    results: Tensor  # (world_size, slots, rows, columns)
    work: dist.Work | None
    dtype: torch.dtype  # of the results to return


def orthogonalize_replicated(
    stacks: Iterable[Tensor], dtype: torch.dtype, group: dist.ProcessGroup, band: int | None = None
) -> Iterator[list[Tensor]]:
    """Orthogonalizes matrices of which every process of the group holds a copy.

    All processes get the same bits, because each result is computed once. Communication of one shape overlaps with the
    computation of the next.

    Args:
        stacks: (count, rows, columns) for each shape, in the same order in every process.
        dtype: precision of the matrix products and of the communication.
        group: the processes.
        band: rows that are orthogonalized together; None for whole matrices.

    Yields:
        For each stack, the results in its order and dtype.
    """
    world_size, rank = dist.get_world_size(group), dist.get_rank(group)
    first, pending = 0, []
    for matrices in stacks:
        owners = assign(first, len(matrices), world_size)
        first += len(matrices)
        own = [i for i, owner in enumerate(owners) if owner == rank]
        slots = -(-len(matrices) // world_size)  # smaller shares are padded to this
        share = matrices.new_zeros(slots, *matrices[0].shape, dtype=dtype)
        if own:
            share[: len(own)] = orthogonalize(matrices[own], band, dtype)
        results = share.new_empty(world_size, *share.shape)
        work = all_gather(results.flatten(0, 1), share, group=group, async_op=True)
        pending.append(_AllGather(owners, results, work, matrices.dtype))
    for owners, results, work, result_dtype in pending:
        if work is not None:
            work.wait()
        results = results.to(result_dtype)
        # of one shape, every world_size-th matrix has the same owner
        yield [results[owner, i // world_size] for i, owner in enumerate(owners)]


class _Exchange:
    """The all-to-all communication of one shape: rows to the owners, results back.

    Args:
        shards: this process's rows of each matrix: (count, its rows, columns).
        rows: rows of a whole matrix.
        owners: the rank that orthogonalizes each matrix.
        dtype: precision of the communication.
        group: the processes.
    """

    def __init__(
        self, shards: Tensor, rows: int, owners: list[int], dtype: torch.dtype, group: dist.ProcessGroup
    ) -> None:
        world_size, rank = dist.get_world_size(group), dist.get_rank(group)
        self.group, self.columns, self.dtype = group, shards.size(2), shards.dtype
        chunk = -(-rows // world_size)  # as DTensor and torch.chunk split: the last ranks may hold fewer or none
        self.rows = [min(chunk, max(0, rows - r * chunk)) for r in range(world_size)]
        self.held = self.rows[rank]
        assert shards.size(1) == self.held
        self.owned = owners.count(rank)
        self.by_owner = sorted(range(len(shards)), key=owners.__getitem__)
        # elements exchanged with each rank: sent to the owners, received by this one
        self.sent = [owners.count(r) * shards[0].numel() for r in range(world_size)]
        self.received = [self.owned * r * self.columns for r in self.rows]
        self._start(shards[self.by_owner].to(dtype).flatten(), self.sent, self.received)

    def _start(self, sent: Tensor, sizes: list[int], received_sizes: list[int]) -> None:
        self.buffer = sent.new_empty(sum(received_sizes))
        self.work = dist.all_to_all_single(self.buffer, sent, received_sizes, sizes, group=self.group, async_op=True)

    def _wait(self) -> Tensor:
        if self.work is not None:
            self.work.wait()
        return self.buffer

    def orthogonalize(self, band: int | None) -> None:
        """Orthogonalizes this process's share and starts sending the results back."""
        received = self._wait().split(self.received)
        whole = torch.cat(
            [part.view(self.owned, r, self.columns) for part, r in zip(received, self.rows, strict=True)], dim=1
        )
        if self.owned:
            whole = orthogonalize(whole, band)
        sent = torch.cat([part.flatten() for part in whole.split(self.rows, dim=1)])
        self._start(sent, self.received, self.sent)

    def results(self) -> list[Tensor]:
        """This process's rows of each orthogonalized matrix."""
        shards = self._wait().to(self.dtype).view(len(self.by_owner), self.held, self.columns)
        back = dict(zip(self.by_owner, shards.unbind(), strict=True))
        return [back[i] for i in range(len(back))]


def orthogonalize_sharded(
    stacks: Iterable[Tensor],
    rows: Iterable[int],
    dtype: torch.dtype,
    group: dist.ProcessGroup,
    band: int | None = None,
) -> Iterator[list[Tensor]]:
    """Orthogonalizes matrices of which each process of the group holds some rows.

    Args:
        stacks: this process's rows of the matrices, (count, its rows, columns) for each shape, in the same order in
            every process.
        rows: rows of a whole matrix, for each stack.
        dtype: precision of the matrix products and of the communication.
        group: the processes, in the order of the rows that they hold.
        band: rows that are orthogonalized together; None for whole matrices.

    Yields:
        For each stack, this process's rows of the results in its order and dtype.
    """
    first, exchanges = 0, []
    for shards, whole in zip(stacks, rows, strict=True):
        owners = assign(first, len(shards), dist.get_world_size(group))
        first += len(shards)
        exchanges.append(_Exchange(shards, whole, owners, dtype, group))
    for exchange in exchanges:
        exchange.orthogonalize(band)
    for exchange in exchanges:
        yield exchange.results()
