"""Muon on several processes: each orthogonalizes its share of the matrices, and the results travel.

Orthogonalizing a matrix takes about 30 x rows x columns x min(rows, columns) operations, whoever does it; all that the
others need is the result. So the matrices are dealt out like cards. There are two ways, after what a process holds:

* whole matrices, the same in every process (DDP): each works on its share, and all gather the results;
* some rows of each matrix (FSDP): an all-to-all brings each process the missing rows of its share, and another one
  takes the results back to where the rows live.

What travels is in the precision of the matrix products. Sharing pays even between two processes on one CPU (a thread
each, gloo, float32, November 2026): a step of the optimizer takes 202 ms instead of 377 at the tiny shape, 842 instead
of 1,537 at the small one; at a toy of 1 block of width 64 it is 8.7 instead of 8.1. So it is not chosen by size.
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


def deal(first: int, count: int, world_size: int) -> list[int]:
    """The process that takes each of ``count`` matrices, if ``first`` have been dealt out before.

    Going on where the last shape ended, no process has more than one matrix more than another, all shapes together
    (and within one shape).
    """
    return [(first + i) % world_size for i in range(count)]


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: its rows of a sharded one, else all of it. Shares the memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_group(parameters: Iterable[Tensor]) -> dist.ProcessGroup | None:
    """The processes over which the parameters are sharded; None if each process holds them whole.

    Raises:
        ValueError: if they are sharded in another way than by rows over one group of processes.
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


class _Gathering(NamedTuple):
    """The results of one shape on their way to all processes."""

    owners: list[int]
    results: Tensor  # (world_size, slots, rows, columns)
    work: dist.Work | None
    dtype: torch.dtype  # that they are wanted in


def orthogonalize_replicated(
    stacks: Iterable[Tensor], dtype: torch.dtype, group: dist.ProcessGroup, band: int | None = None
) -> Iterator[list[Tensor]]:
    """Orthogonalizes matrices that every process of the group holds, each its share of them.

    Every process gets the same bits, because each result is computed once. While the results of one shape travel,
    the next shape is worked on.

    Args:
        stacks: (count, rows, columns) for each shape, in the same order in every process.
        dtype: precision of the matrix products, and of what travels.
        group: the processes.
        band: rows that are orthogonalized together; None for whole matrices.

    Yields:
        For each stack, the results in its order and dtype.
    """
    world_size, rank = dist.get_world_size(group), dist.get_rank(group)
    first, gatherings = 0, []
    for matrices in stacks:
        owners = deal(first, len(matrices), world_size)
        first += len(matrices)
        mine = [i for i, owner in enumerate(owners) if owner == rank]
        slots = -(-len(matrices) // world_size)  # where shares are uneven, the smaller ones are filled up
        share = matrices.new_zeros(slots, *matrices[0].shape, dtype=dtype)
        if mine:
            share[: len(mine)] = orthogonalize(matrices[mine], band, dtype)
        results = share.new_empty(world_size, *share.shape)
        work = all_gather(results.flatten(0, 1), share, group=group, async_op=True)
        gatherings.append(_Gathering(owners, results, work, matrices.dtype))
    for owners, results, work, wanted in gatherings:
        if work is not None:
            work.wait()
        results = results.to(wanted)
        # of one shape, every world_size-th matrix has the same owner
        yield [results[owner, i // world_size] for i, owner in enumerate(owners)]


class _Exchange:
    """Matrices of one shape, of which each process holds some rows, and how they travel.

    Args:
        shards: this process's rows of each matrix: (count, its rows, columns).
        rows: of a whole matrix.
        owners: the process that works on each.
        dtype: in which they travel.
        group: the processes.
    """

    def __init__(
        self, shards: Tensor, rows: int, owners: list[int], dtype: torch.dtype, group: dist.ProcessGroup
    ) -> None:
        world_size, rank = dist.get_world_size(group), dist.get_rank(group)
        self.group, self.columns, self.dtype = group, shards.size(2), shards.dtype
        chunk = -(-rows // world_size)  # DTensor's way, and torch.chunk's: the last ones may have less, or nothing
        self.rows = [min(chunk, max(0, rows - r * chunk)) for r in range(world_size)]
        self.held = self.rows[rank]
        assert shards.size(1) == self.held
        self.mine = owners.count(rank)
        self.by_owner = sorted(range(len(shards)), key=owners.__getitem__)
        # numbers that this process exchanges with each other one, before and after the work
        self.sent = [owners.count(r) * shards[0].numel() for r in range(world_size)]
        self.received = [self.mine * r * self.columns for r in self.rows]
        self._start(shards[self.by_owner].to(dtype).flatten(), self.sent, self.received)

    def _start(self, sent: Tensor, sizes: list[int], received_sizes: list[int]) -> None:
        self.buffer = sent.new_empty(sum(received_sizes))
        self.work = dist.all_to_all_single(self.buffer, sent, received_sizes, sizes, group=self.group, async_op=True)

    def _arrived(self) -> Tensor:
        if self.work is not None:
            self.work.wait()
        return self.buffer

    def orthogonalize(self, band: int | None) -> None:
        """Works on this process's share, and sends the results back to where the rows live."""
        parts = self._arrived().split(self.received)
        whole = torch.cat([p.view(self.mine, r, self.columns) for p, r in zip(parts, self.rows, strict=True)], dim=1)
        if self.mine:
            whole = orthogonalize(whole, band)
        sent = torch.cat([part.flatten() for part in whole.split(self.rows, dim=1)])
        self._start(sent, self.received, self.sent)

    def results(self) -> list[Tensor]:
        """This process's rows of each orthogonalized matrix."""
        shards = self._arrived().to(self.dtype).view(len(self.by_owner), self.held, self.columns)
        back = dict(zip(self.by_owner, shards.unbind(), strict=True))
        return [back[i] for i in range(len(back))]


def orthogonalize_sharded(
    stacks: Iterable[Tensor],
    rows: Iterable[int],
    dtype: torch.dtype,
    group: dist.ProcessGroup,
    band: int | None = None,
) -> Iterator[list[Tensor]]:
    """Orthogonalizes matrices of which each process of the group holds some rows, each process its share of them.

    Args:
        stacks: this process's rows of the matrices, (count, its rows, columns) for each shape, everywhere in one order.
        rows: of a whole matrix, for each stack.
        dtype: precision of the matrix products, and of what travels.
        group: the processes, in the order of the rows that they hold.
        band: rows that are orthogonalized together; None for whole matrices.

    Yields:
        For each stack, this process's rows of the results in its order and dtype.
    """
    first, exchanges = 0, []
    for shards, whole in zip(stacks, rows, strict=True):
        owners = deal(first, len(shards), dist.get_world_size(group))
        first += len(shards)
        exchanges.append(_Exchange(shards, whole, owners, dtype, group))
    for exchange in exchanges:
        exchange.orthogonalize(band)
    for exchange in exchanges:
        yield exchange.results()
