"""The FSDP2 strategy and its memory; training with it is tested in tests/cli."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from nanochat.model import GPT, GPTConfig
from nanochat.training.budget.memory import training_memory
from nanochat.training.language_model import LanguageModel
from nanochat.training.sharding import FullyShardedStrategy, shard


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    """A mesh of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield DeviceMesh("cpu", [0])
    dist.destroy_process_group()


def test_a_sharded_model_is_the_same_model(mesh: DeviceMesh) -> None:
    torch.manual_seed(0)
    plain, sharded = GPT(GPTConfig.from_options(2, 300, 64)), GPT(GPTConfig.from_options(2, 300, 64))
    torch.nn.init.normal_(plain.lm_head.weight)
    sharded.load_state_dict(plain.state_dict())
    ids = torch.randint(300, (2, 65))
    shard(sharded, mesh, "32-true")
    shard(sharded, mesh, "32-true")  # Lightning calls configure_model again before a validation
    assert all(isinstance(p, DTensor) for p in sharded.parameters())
    assert sharded.num_parameters == plain.num_parameters
    for gpt in (plain, sharded):
        gpt.losses(ids[:, :-1], ids[:, 1:]).sum().backward()
    for (name, p), (same, q) in zip(plain.named_parameters(), sharded.named_parameters(), strict=True):
        assert name == same
        torch.testing.assert_close(p.grad, q.grad.full_tensor())
    torch.testing.assert_close(plain(ids[:, :-1]), sharded(ids[:, :-1]))


class Harmful:
    """An object that an attacker could pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_the_strategy_unpickles_nothing(mesh: DeviceMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # the environment must not change it
    torch.save({"state_dict": {}, "harm": Harmful(tmp_path / "harmed")}, tmp_path / "evil.ckpt")
    module = LanguageModel(depth=1)
    shard(module.gpt, mesh, "32-true")
    strategy = FullyShardedStrategy()
    strategy.connect(module)
    with pytest.raises(pickle.UnpicklingError):
        strategy.load_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "harmed").exists()


def test_memory_falls_with_the_number_of_devices() -> None:
    with torch.device("meta"):
        gpt = GPT(GPTConfig.from_options(20, 65536, 2048))
    needed = [training_memory(gpt, 1, 2048, 2, shards) for shards in (1, 2, 4, 8)]
    assert needed == sorted(needed, reverse=True)
    whole, sharded = (
        7.4e9,
        7.4e9 / 8,
    )  # weights, gradients and states: 12 bytes per parameter in the blocks, 16 in embedding and head
    assert needed[0] - needed[3] > 0.8 * (whole - sharded)
