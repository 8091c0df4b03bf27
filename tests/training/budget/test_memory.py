"""Estimates of memory, compared with figures computed by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from nanochat.data.tokens.batches import HeldOutBatches, number_of_lengths
from nanochat.model import GPT, GPTConfig
from nanochat.training.budget.memory import (
    ALLOCATOR_OVERHEAD,
    ONEDNN_BYTES_PER_SHAPE,
    PROCESS_BYTES,
    expected_memory,
    muon_memory,
    state_memory,
    step_memory,
    validation_memory,
)
from nanochat.training.language_model import LanguageModel
from tests.analysis.model.fakes import Rows


def test_validation_memory_is_that_of_a_block_or_of_the_logits() -> None:
    gpt = GPT(GPTConfig.from_options(3, 300, 512, width=128, heads=2))
    per_token = 9 * 128 + 2 * 2 * 512  # nine vectors; for each head the attention scores before and after the softmax
    assert validation_memory(gpt, 512, 2) == 2048 * per_token * 2
    assert validation_memory(gpt, 512, 4) == 2048 * per_token * 4
    deeper = GPT(GPTConfig.from_options(6, 300, 512, width=128, heads=2))
    assert validation_memory(deeper, 512, 2) == validation_memory(gpt, 512, 2)  # no activations are saved
    assert validation_memory(GPT(GPTConfig.from_options(1, 6000, 64, width=64)), 64, 2) == 2048 * 6000 * (2 + 8)
    in_chunks = GPT(GPTConfig.from_options(1, 16_384, 64, width=64))  # two chunks of logits
    assert validation_memory(in_chunks, 64, 2) == 2**25 * (2 + 8)


@pytest.mark.parametrize(("precision", "bytes_each"), [("bf16-mixed", 2), ("32-true", 4)])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_the_larger_of_step_and_validation_counts(precision: str, bytes_each: int, batch_size: int) -> None:
    module = LanguageModel(depth=2, width=128, vocab_size=300, context=512)
    data = SimpleNamespace(batch_size=batch_size, row_length=128, held_out=SimpleNamespace(length=512))
    trainer: Any = SimpleNamespace(
        datamodule=data, precision=precision, world_size=1, strategy=SingleDeviceStrategy(torch.device("cpu"))
    )
    step = step_memory(module.gpt, batch_size, 128, bytes_each)
    validation = validation_memory(module.gpt, 512, bytes_each)
    assert (step > validation) == (batch_size == 64)
    assert muon_memory(module.gpt) == 2 * 4 * 128**2 * 16 < min(step, validation)
    onednn = 8 * ONEDNN_BYTES_PER_SHAPE if bytes_each == 2 else 0  # batches of 64, 128 ... 512 tokens
    tensors = state_memory(module.gpt, bytes_each) + max(step, validation)
    expected = PROCESS_BYTES + onednn + ALLOCATOR_OVERHEAD * tensors
    assert expected_memory(trainer, module) == pytest.approx(expected)


def test_validation_batches_have_few_shapes() -> None:
    """In bfloat16, oneDNN keeps buffers for each of them."""
    rows = Rows([[1] * (2 + n) for n in range(500)])  # of 1 to 500 tokens
    shapes = [tuple(ids.shape) for ids, _ in HeldOutBatches(rows, len(rows), 0)]
    lengths = [length for _, length in shapes]
    assert set(lengths) == {64, 128, 192, 256, 320, 384, 448, 500}  # the last one is the longest row
    assert len(set(lengths)) == number_of_lengths(500)
    assert all(count == 2048 // length for count, length in shapes[:-1])  # all batches but the last are full
