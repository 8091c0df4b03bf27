"""Bits per byte."""

import math

import pytest
import torch

from nanochat.model import IGNORE
from nanochat.training.metrics import BitsPerByte


def test_bits_per_byte_by_hand() -> None:
    metric = BitsPerByte([1, 3, 0])
    metric.update(torch.tensor([[math.log(2), math.log(16)], [7.0, 9.0]]), torch.tensor([[0, 1], [2, IGNORE]]))
    metric.update(torch.tensor([math.log(4)]), torch.tensor([0]))
    # 1 + 4 + 2 bits over 1 + 3 + 1 bytes; the special token and the ignored position add neither
    assert metric.compute().item() == pytest.approx(7 / 5)


def test_states_of_devices_add_up() -> None:
    losses, targets = torch.rand(4, 50), torch.randint(3, (4, 50))
    whole = BitsPerByte([1, 3, 0])
    whole.update(losses, targets)
    parts = [BitsPerByte([1, 3, 0]) for _ in range(4)]
    for part, loss, target in zip(parts, losses, targets, strict=True):
        part.update(loss, target)
    for part in parts[1:]:
        parts[0]._reduce_states({name: getattr(part, name) for name in ("nats", "bytes")})
    torch.testing.assert_close(parts[0].compute(), whole.compute())


def test_a_large_sum_keeps_small_losses() -> None:
    metric = BitsPerByte([1])
    for _ in range(200):
        metric.update(torch.full((100_000,), 1e-3), torch.zeros(100_000, dtype=torch.int64))
    assert metric.compute().item() == pytest.approx(1e-3 / math.log(2), rel=1e-6)
