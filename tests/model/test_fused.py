"""Fused functions against the plain formulas: values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model import GPT, IGNORE, GPTConfig, fused
from nanochat.model.loss import token_losses, weighted_loss
from nanochat.model.rotary import rotate, rotation_table


def plain_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


def compare(fast: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor, rtol: float = 1e-4) -> None:
    results = []
    for function in (fast, plain):
        leaves = [x.clone().requires_grad_() for x in inputs]
        y = function(*leaves)
        y.backward(torch.linspace(-1, 2, y.numel()).view_as(y).to(y.dtype))
        results.append((y, [leaf.grad for leaf in leaves]))
    torch.testing.assert_close(*results, rtol=rtol, atol=rtol / 10)


def test_norm() -> None:
    compare(fused.norm, plain_norm, torch.randn(3, 5, 64))
    compare(fused.norm, plain_norm, torch.zeros(2, 8))  # nothing is divided by zero


@pytest.mark.parametrize("heads", [1, 3])
def test_rotate_and_norm(heads: int) -> None:
    cos, sin = rotation_table(7, 8)

    def plain(x: Tensor) -> Tensor:
        return plain_norm(rotate(x, cos, sin)).transpose(1, 2)

    compare(lambda x: fused.rotate_and_norm(x, cos, sin), plain, torch.randn(2, 7, heads, 8))
    compare(
        lambda x: fused.rotate_and_norm(x[:, :, 1:], cos, sin), lambda x: plain(x[:, :, 1:]), torch.randn(2, 7, 4, 8)
    )


def test_attention() -> None:
    def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)

    compare(fused.attention, plain, *torch.randn(3, 2, 3, 7, 8))


def test_row_length_limit() -> None:
    query = torch.empty(1, 2, 256, 8)
    assert fused.attends_by_products(query, query)
    assert not fused.attends_by_products(query, query[:, :1])  # grouped queries
    longer = torch.empty(1, 2, 257, 8)
    assert not fused.attends_by_products(longer, longer)
    assert fused.attends_by_products(longer.bfloat16(), longer.bfloat16())


def test_mlp() -> None:
    def plain(x: Tensor, expand: Tensor, contract: Tensor) -> Tensor:
        return F.linear(F.relu(F.linear(x, expand)).square(), contract)

    compare(fused.mlp, plain, torch.randn(2, 5, 8), torch.randn(32, 8), torch.randn(8, 32))


@pytest.mark.parametrize("chunk", [1, 40, 2**20])
def test_weighted_loss(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanochat.model.loss.CPU_CHUNK_ELEMENTS", chunk)
    monkeypatch.setattr("nanochat.model.loss.CPU_CHUNK_ROWS", 1)
    targets = torch.tensor([3, IGNORE, 0, 12, 12])
    weights = torch.tensor([0.5, 1.0, -2.0, 0.0, 1.5])
    hidden, head = torch.randn(5, 6), 3 * torch.randn(13, 6)

    def plain(hidden: Tensor, head: Tensor) -> Tensor:
        return (weights * token_losses(hidden, head, targets)).sum()

    compare(lambda h, w: weighted_loss(h, w, targets, weights)[0], plain, hidden, head)
    losses = weighted_loss(hidden, head, targets, weights)[1]
    torch.testing.assert_close(losses, token_losses(hidden, head, targets))
    assert not losses.requires_grad


@pytest.mark.parametrize("kv_heads", [2, 1])
def test_whole_model(kv_heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with autocast, where weights stay in float32: gradients agree to the precision of bfloat16."""
    gpt = GPT(GPTConfig.from_options(2, 40, 16, width=32, heads=2, kv_heads=kv_heads))
    for p in gpt.parameters():
        torch.nn.init.normal_(p, std=p.size(-1) ** -0.5)
    ids, targets = torch.randint(40, (2, 3, 16))
    weights = torch.full((3, 16), 1 / 48)

    def gradients(dtype: torch.dtype, by_hand: bool) -> Tensor:
        monkeypatch.setattr(fused, "applies", lambda x: by_hand)
        monkeypatch.setattr(fused, "attends_by_products", lambda query, key: by_hand and kv_heads == 2)
        gpt.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = gpt.loss(ids, targets, weights)[0] if by_hand else gpt.losses(ids, targets).mean()
        loss.backward()
        return torch.cat([loss.detach().view(1), *(p.grad.flatten() for p in gpt.parameters())])

    exact = gradients(torch.float32, False)
    torch.testing.assert_close(gradients(torch.float32, True), exact, rtol=1e-4, atol=1e-6)

    def error(by_hand: bool) -> float:
        return float((gradients(torch.bfloat16, by_hand) - exact).norm() / exact.norm())

    assert error(True) < 1.5 * error(False) < 0.05
