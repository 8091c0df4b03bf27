"""Attention, the logit lens and the embedding, compared with the model's own results and with known matrices."""

from __future__ import annotations

import math

import pytest
import torch

from nanochat.analysis.model import attention, embedding, logit_lens
from nanochat.analysis.model.attention_weights import (
    attention_stats,
    model_attention_stats,
    record_attention,
    uniform_attention_stats,
)
from nanochat.analysis.model.held_out_losses import held_out_losses
from nanochat.analysis.model.residual_stream import logits_by_depth, mean_loss_by_depth
from nanochat.analysis.style import evenly_spaced
from nanochat.model import GPT, GPTConfig
from nanochat.model.layers import Attention
from tests.analysis.model.fakes import fake_loaded_model, texts
from tests.evaluation.models import random_model
from tests.inference.models import byte_tokenizer

BOS = byte_tokenizer().bos
SENTENCE = "Return the largest of all the values that there are in it."


@pytest.mark.parametrize(("kv_heads", "length"), [(None, 20), (1, 20), (None, 300)])
def test_recorded_attention_matches_the_model(kv_heads: int | None, length: int) -> None:
    """Rows of 20 tokens use plain matrix products; rows of 300 and grouped queries use torch's fused kernel."""
    gpt = random_model(0, context=512, kv_heads=kv_heads)
    found: list[torch.Tensor] = []
    ids = torch.randint(0, 250, (2, length))
    record_attention(gpt, ids, lambda layer, weights: found.append(weights))  # raises if they differ
    assert [tuple(weights.shape) for weights in found] == [(2, gpt.config.n_head, length, length)] * 2
    for weights in found:
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
        assert not weights.triu(1).any()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in gpt.modules())


def test_changed_attention_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    gpt = random_model(0)
    forward = Attention.forward

    def changed(self: Attention, x: torch.Tensor, *more: object) -> torch.Tensor:
        handle = self.c_proj.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 1.01,), prepend=True)
        try:
            return forward(self, x, *more)  # type: ignore[arg-type]
        finally:
            handle.remove()

    monkeypatch.setattr(Attention, "forward", changed)
    with pytest.raises(RuntimeError, match="recomputed attention differs"):
        record_attention(gpt, torch.randint(0, 250, (1, 20)), lambda layer, weights: None)


def test_zero_queries_give_uniform_attention() -> None:
    gpt = random_model(0)
    for block in gpt.blocks:
        block.attn.c_q.weight.data.zero_()
    found, uniform = model_attention_stats(gpt, torch.randint(0, 250, (2, 12)), 4), uniform_attention_stats(12, 4)
    for values, expected in zip(found, uniform, strict=True):
        assert torch.allclose(values, expected.expand_as(values), atol=1e-5)


def test_statistics_of_known_attention() -> None:
    uniform = torch.ones(3, 3).tril() / torch.tensor([1.0, 2, 3])[:, None]
    found = attention_stats(uniform[None, None], 1)
    assert found.distance.item() == pytest.approx((0.5 + 1) / 2)
    assert found.entropy.item() == pytest.approx((1 + math.log2(3)) / 2)
    assert found.first.item() == found.previous.item() == found.itself.item() == pytest.approx((1 / 2 + 1 / 3) / 2)
    previous = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]])  # always the previous token
    found = attention_stats(previous[None, None], 1)
    assert (found.distance.item(), found.entropy.item(), found.previous.item()) == (1.0, 0.0, 1.0)
    assert (found.first.item(), found.itself.item()) == (0.5, 0.0)


def test_last_logits_are_the_models() -> None:
    gpt = random_model(0)
    ids = torch.randint(0, 250, (2, 9))
    found = logits_by_depth(gpt, ids)
    assert found.shape == (3, 2, 9, 265)
    assert torch.allclose(found[-1], gpt(ids), atol=1e-5)
    assert not torch.allclose(found[0], found[-1], atol=0.1)


def test_identity_blocks_give_equal_losses() -> None:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig.from_options(depth=2, vocab_size=265, context=64, width=128))  # fresh output matrices are 0
    torch.nn.init.normal_(gpt.lm_head.weight, std=0.3)
    rows = texts("some words", "and some more of them")
    found, tokens = mean_loss_by_depth(gpt, rows, BOS)
    assert tokens == rows.predictions
    assert found.tolist() == pytest.approx([held_out_losses(gpt, rows, BOS).nats.mean()] * 3, abs=1e-5)


def test_principal_plane_of_known_points() -> None:
    points = torch.tensor([[3.0, 0, 0], [-3, 0, 0], [0, 0, 1], [0, 0, -1]]) + 5
    plane = embedding.principal_plane(points)
    assert plane.shares.tolist() == pytest.approx([0.9, 0.1], abs=1e-5)  # 18 and 2 of 20
    assert plane.points[:, 0].abs().tolist() == pytest.approx([3, 3, 0, 0], abs=1e-4)
    assert plane.points[:, 1].abs().tolist() == pytest.approx([0, 0, 1, 1], abs=1e-4)


def test_nearest_neighbours_by_cosine() -> None:
    vectors = torch.tensor([[1.0, 0], [0, 5], [9, 1], [-1, 0]])
    cosines, nearest = embedding.nearest_neighbours(vectors, torch.tensor([0, 3]), 2)
    assert nearest.tolist() == [[2, 1], [1, 2]]
    assert cosines[0].tolist() == pytest.approx([9 / 82**0.5, 0.0], abs=1e-6)


def test_figures_are_drawn() -> None:
    loaded = fake_loaded_model(random_model(0), texts(*[f"pkg.x{n}\n\n{SENTENCE * 2}\n" for n in range(9)]))
    for build in (
        attention.attention_maps,
        attention.attention_heads,
        logit_lens.logit_lens,
        logit_lens.loss_by_depth,
        embedding.figure,
    ):
        figure = build(loaded)
        assert figure.draw is not None
        figure.draw()
    lens = logit_lens.logit_lens(loaded)
    assert lens.table is not None
    assert [row[1] for row in lens.table.rows[:: loaded.gpt.config.n_layer + 1]][:4] == ["<|bos|>", "R", "e", "t"]


def test_evenly_spaced() -> None:
    assert evenly_spaced(4, 6) == [0, 1, 2, 3]
    assert evenly_spaced(20, 6) == [0, 4, 8, 11, 15, 19]
