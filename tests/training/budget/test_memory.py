"""What a run is reckoned to take of memory; figures by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from nanochat.data.tokens.batches import HeldOutBatches, number_of_lengths
from nanochat.model import GPT, GPTConfig
from nanochat.training.budget.memory import (
    PROCESS,
    SIZE_BYTES,
    WORKSPACE,
    expected_memory,
    muon_memory,
    scoring_memory,
    state_memory,
    step_memory,
)
from nanochat.training.language_model import LanguageModel
from tests.analysis.model.fakes import Rows


def test_a_score_takes_what_one_block_does_or_what_the_logits_do() -> None:
    gpt = GPT(GPTConfig.from_options(3, 300, 512, width=128, heads=2))
    a_token = 9 * 128 + 2 * 2 * 512  # nine vectors, and for each head a score and a share for each token of the row
    assert scoring_memory(gpt, 512, 2) == 2048 * a_token * 2
    assert scoring_memory(gpt, 512, 4) == 2048 * a_token * 4
    deeper = GPT(GPTConfig.from_options(6, 300, 512, width=128, heads=2))
    assert scoring_memory(deeper, 512, 2) == scoring_memory(gpt, 512, 2)  # nothing is kept
    assert scoring_memory(GPT(GPTConfig.from_options(1, 6000, 64, width=64)), 64, 2) == 2048 * 6000 * (2 + 8)
    assert scoring_memory(GPT(GPTConfig.from_options(1, 16_384, 64, width=64)), 64, 2) == 2**25 * (
        2 + 8
    )  # in two parts


@pytest.mark.parametrize(("precision", "bytes_each"), [("bf16-mixed", 2), ("32-true", 4)])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_what_takes_more_counts_a_step_or_a_score(precision: str, bytes_each: int, batch_size: int) -> None:
    module = LanguageModel(depth=2, width=128, vocab_size=300, context=512)
    data = SimpleNamespace(batch_size=batch_size, row_length=128, held_out=SimpleNamespace(length=512))
    trainer: Any = SimpleNamespace(
        datamodule=data, precision=precision, world_size=1, strategy=SingleDeviceStrategy(torch.device("cpu"))
    )
    step, score = step_memory(module.gpt, batch_size, 128, bytes_each), scoring_memory(module.gpt, 512, bytes_each)
    assert (step > score) == (batch_size == 64)
    assert muon_memory(module.gpt) == 2 * 4 * 128**2 * 16 < min(step, score)
    kept = 8 * SIZE_BYTES if bytes_each == 2 else 0  # batches of 64, 128 ... 512 tokens
    expected = PROCESS + kept + WORKSPACE * (state_memory(module.gpt, bytes_each) + max(step, score))
    assert expected_memory(trainer, module) == pytest.approx(expected)


def test_batches_of_held_out_rows_come_in_few_sizes() -> None:
    """Or else memory grows with each of them, in bfloat16."""
    rows = Rows([[1] * (2 + n) for n in range(500)])  # of 1 to 500 tokens
    shapes = [tuple(ids.shape) for ids, _ in HeldOutBatches(rows, len(rows), 0)]
    lengths = [length for _, length in shapes]
    assert set(lengths) == {64, 128, 192, 256, 320, 384, 448, 500}  # no more than the longest row
    assert len(set(lengths)) == number_of_lengths(500)
    assert all(count == 2048 // length for count, length in shapes[:-1])  # only the last is not full
