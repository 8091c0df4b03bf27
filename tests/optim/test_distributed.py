"""Distributed Muon in real processes over gloo, compared with a single process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from nanochat.optim import MuonAdamW, distributed
from nanochat.optim.distributed import assign

WORLD = 3
# square, tall and wide; in bands of 8 rows or whole; more and fewer than processes; rows that do not divide, and fewer
# rows than processes
SHAPES = [(16, 16)] * 5 + [(32, 8)] * 2 + [(7, 12)] + [(2, 4)]
TABLE = (11, 4)
STEPS = 4


def build(shard: Any = None, **settings: Any) -> tuple[MuonAdamW, list[nn.Parameter]]:
    """The same weights in every process; ``shard`` turns each into the local part of a process."""
    generator = torch.Generator().manual_seed(0)
    whole = [torch.randn(shape, generator=generator) for shape in (*SHAPES, TABLE)]
    parameters = [nn.Parameter(shard(w) if shard is not None else w) for w in whole]
    groups = [
        {"name": "m", "algorithm": "muon", "params": parameters[:-1], "lr": 0.02, "weight_decay": 0.1},
        {"name": "e", "algorithm": "adamw", "params": parameters[-1:], "lr": 0.1},
    ]
    return MuonAdamW(groups, band=8, **settings), parameters


def train(optimizer: MuonAdamW, parameters: list[nn.Parameter], shard: Any = None) -> list[Tensor]:
    """A few steps, each with the same gradients in every process; returns the whole weights."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        for p in parameters:
            gradient = torch.randn(p.shape, generator=generator)
            p.grad = shard(gradient) if shard is not None else gradient
        optimizer.step()
    return [p.full_tensor() if isinstance(p, DTensor) else p.detach() for p in map(torch.Tensor.detach, parameters)]


def worker(rank: int, folder: str) -> None:
    """Runs in each process; its results are written to a file."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    worked: list[int] = []
    really = distributed.orthogonalize

    def counting(matrices: Tensor, band: int | None, dtype: torch.dtype | None = None) -> Tensor:
        worked.append(len(matrices))
        return really(matrices, band, dtype)

    distributed.orthogonalize = counting  # type: ignore[attr-defined]
    found: dict[str, list[Tensor]] = {}
    for size in (2, WORLD):
        group, mesh = dist.new_group(list(range(size))), DeviceMesh("cpu", list(range(size)))
        if rank >= size:
            continue
        for dtype in (torch.float32, torch.bfloat16):
            found[f"replicated {size} {dtype}"] = train(*build(processes=group, muon_dtype=dtype))
            found[f"replicated {size} {dtype} worked"] = [torch.tensor(worked).sum()]
            worked.clear()

            def shard(whole: Tensor, mesh: DeviceMesh = mesh) -> Tensor:
                return distribute_tensor(whole, mesh, [Shard(0)])

            found[f"sharded {size} {dtype}"] = train(*build(shard, muon_dtype=dtype), shard)
            found[f"sharded {size} {dtype} worked"] = [torch.tensor(worked).sum()]
            worked.clear()
    torch.save(found, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Tensor]]]:
    """The results of each of three processes."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(worker, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


CASES = [
    (way, size, dtype)
    for way in ("replicated", "sharded")
    for size in (2, WORLD)
    for dtype in (torch.float32, torch.bfloat16)
]


@pytest.mark.parametrize(("way", "size", "dtype"), CASES)
def test_equals_one_process(found: list, way: str, size: int, dtype: torch.dtype) -> None:
    alone = train(*build(muon_dtype=dtype))
    start = build()[1]
    for rank in range(size):
        for together, one, before in zip(found[rank][f"{way} {size} {dtype}"], alone, start, strict=True):
            moved = (one - before).norm()
            # bfloat16 keeps three digits, and a product of another batch may be summed in another order
            assert (together - one).norm() < (1e-5 if dtype == torch.float32 else 0.02) * moved


@pytest.mark.parametrize(("way", "size", "dtype"), CASES)
def test_ranks_agree_bitwise(found: list, way: str, size: int, dtype: torch.dtype) -> None:
    first, *others = [found[rank][f"{way} {size} {dtype}"] for rank in range(size)]
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("way", "size", "dtype"), CASES)
def test_work_is_divided(found: list, way: str, size: int, dtype: torch.dtype) -> None:
    worked = [int(found[rank][f"{way} {size} {dtype} worked"][0]) for rank in range(size)]
    assert sum(worked) == STEPS * len(SHAPES)
    assert max(worked) - min(worked) <= STEPS  # one matrix a step


def test_assignment_is_round_robin() -> None:
    assert assign(0, 4, 3) == [0, 1, 2, 0]
    assert assign(4, 2, 3) == [1, 2]
    assert assign(6, 1, 1) == [0]


def test_other_sharding_is_refused(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        mesh = DeviceMesh("cpu", [0])
        optimizer, parameters = build(lambda whole: distribute_tensor(whole, mesh, [Shard(1)]))
        with pytest.raises(ValueError, match="sharded by rows"):
            train(optimizer, parameters, lambda whole: distribute_tensor(whole, mesh, [Shard(1)]))
    finally:
        dist.destroy_process_group()
