"""GPUs, tested without one: peak FLOP/s, memory, and flags of all ranks without waiting."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import yaml

from nanochat.model import GPT, GPTConfig
from nanochat.training.any_rank import DelayedAnyRank
from nanochat.training.budget.memory import ALLOCATOR_OVERHEAD, training_memory
from nanochat.training.gpu_peaks import rated_flops
from nanochat.training.hardware import matmul_dtype
from tests.cli.tools import ROOT


@pytest.mark.parametrize(
    ("name", "precision", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16-mixed", 989.4),
        ("NVIDIA H100 80GB HBM3", "32-true", 66.9),
        ("NVIDIA H100 PCIe", "bf16-true", 756),
        ("NVIDIA H100 NVL", "bf16-mixed", 835.5),
        ("NVIDIA H200", "bf16-mixed", 989.4),
        ("NVIDIA A100-SXM4-80GB", "bf16-mixed", 312),
        ("NVIDIA L40S", "bf16-mixed", 362),
        ("NVIDIA GeForce RTX 4080 SUPER", "bf16-mixed", 104.4),
        ("Tesla T4", "16-mixed", 65),
    ],
)
def test_peak_flops_of_a_card(name: str, precision: str, tflops: float) -> None:
    assert rated_flops(name, matmul_dtype(precision)) == pytest.approx(tflops * 1e12)


@pytest.mark.parametrize(
    "name", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GeForce RTX 4090 Laptop GPU", "AMD Instinct MI300X", "A1000"]
)
def test_cards_with_similar_names_have_no_peak(name: str) -> None:
    assert rated_flops(name, torch.bfloat16) is None


def test_the_full_tier_fits_into_80_gigabytes() -> None:
    """With its batch size; 32 rows, nanochat's batch size, are not expected to fit."""
    config = yaml.safe_load((ROOT / "configs" / "full.yaml").read_text())
    data = config["data"]
    with torch.device("meta"):
        gpt = GPT(GPTConfig.from_options(config["model"]["depth"], data["vocab_size"], data["context"]))
    buckets = 4 * gpt.num_parameters  # gradient buckets of DDP

    def needed(rows: int) -> float:
        return training_memory(gpt, rows, data["context"], 2, on_gpu=True) * ALLOCATOR_OVERHEAD + buckets

    # 30.4 GB of activations, 7.4 GB of weights, gradients and optimizer state, and the temporaries of Muon and the loss
    assert 40e9 < needed(data["batch_size"]) < 0.75 * 80e9
    assert needed(32) > 80e9
    assert data["tokens_per_step"] % (16 * data["batch_size"] * data["context"]) == 0  # on 1, 2, 4, 8 or 16 GPUs


def test_delayed_any_rank_returns_the_previous_result(tmp_path: Path) -> None:
    two = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    alone = SimpleNamespace(world_size=1)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        delayed = DelayedAnyRank()
        assert [delayed.ask(two, flag) for flag in (True, False, False)] == [False, True, False]  # type: ignore[arg-type]
        assert [DelayedAnyRank().ask(alone, flag) for flag in (True, False)] == [True, False]  # type: ignore[arg-type]
    finally:
        dist.destroy_process_group()
