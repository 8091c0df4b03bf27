"""What is known of GPUs without having one: their peaks, what fits, and questions that none of them waits for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import yaml

from nanochat.model import GPT, GPTConfig
from nanochat.training.any_rank import DelayedAnyRank
from nanochat.training.budget.memory import WORKSPACE, training_memory
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
def test_the_peak_is_that_of_the_card_and_the_precision(name: str, precision: str, tflops: float) -> None:
    assert rated_flops(name, matmul_dtype(precision)) == pytest.approx(tflops * 1e12)


@pytest.mark.parametrize(
    "name", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA GeForce RTX 4090 Laptop GPU", "AMD Instinct MI300X", "A1000"]
)
def test_no_peak_is_better_than_that_of_another_card(name: str) -> None:
    assert rated_flops(name, torch.bfloat16) is None


def test_the_full_tier_fits_into_80_gigabytes() -> None:
    """And the micro-step of 32 rows, with which nanochat fills them, is not promised to."""
    config = yaml.safe_load((ROOT / "configs" / "full.yaml").read_text())
    data = config["data"]
    with torch.device("meta"):
        gpt = GPT(GPTConfig.from_options(config["model"]["depth"], data["vocab_size"], data["context"]))
    buckets = 4 * gpt.num_parameters  # of DDP

    def needed(rows: int) -> float:
        return training_memory(gpt, rows, data["context"], 2, on_gpu=True) * WORKSPACE + buckets

    # 30.4 GB of activations, 7.4 GB of weights, gradients and averages, and what Muon and the loss hold
    assert 40e9 < needed(data["batch_size"]) < 0.75 * 80e9
    assert needed(32) > 80e9
    assert data["tokens_per_step"] % (16 * data["batch_size"] * data["context"]) == 0  # on 1, 2, 4, 8 or 16 GPUs


def test_the_answer_of_all_ranks_is_that_to_the_question_before(tmp_path: Path) -> None:
    two = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    alone = SimpleNamespace(world_size=1)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        late = DelayedAnyRank()
        assert [late.ask(two, flag) for flag in (True, False, False)] == [False, True, False]  # type: ignore[arg-type]
        assert [DelayedAnyRank().ask(alone, flag) for flag in (True, False)] == [True, False]  # type: ignore[arg-type]
    finally:
        dist.destroy_process_group()
