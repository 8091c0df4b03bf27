import math

import pytest
import torch
import torch.nn.functional as F

from nanochat.model import GPT, IGNORE, GPTConfig
from nanochat.model import loss as loss_module
from nanochat.model.rotary import rotate, rotation_table


def random_gpt(**kwargs: int) -> GPT:
    """A small model without zero weights, so that every weight affects the output."""
    torch.manual_seed(0)
    gpt = GPT(
        GPTConfig.from_options(**{"depth": 3, "vocab_size": 50, "context": 32, "width": 64, "heads": 4, **kwargs})
    )
    with torch.no_grad():
        for p in gpt.parameters():
            if p.abs().sum() == 0:
                p.normal_(std=0.2)
    return gpt


def ids(rows: int, time: int, vocab_size: int = 50) -> torch.Tensor:
    return torch.randint(vocab_size, (rows, time), generator=torch.Generator().manual_seed(1))


def test_full_tier_has_nanochats_parameters() -> None:
    with torch.device("meta"):  # shapes alone, without two gigabytes of memory
        gpt = GPT(GPTConfig.from_options(depth=20, vocab_size=65_536, context=2048))
    assert (gpt.config.n_layer, gpt.config.n_embd, gpt.config.n_head, gpt.config.n_kv_head) == (20, 1280, 10, 10)
    assert gpt.num_parameters == 560_988_160
    assert gpt.num_block_parameters == 393_216_000
    assert gpt.wte.weight.numel() == gpt.lm_head.weight.numel() == 83_886_080


@pytest.mark.parametrize(
    ("depth", "vocab_size", "millions"), [(4, 512, 3.4), (6, 2048, 12.2), (8, 4096, 29.4), (12, 8192, 97.5)]
)
def test_tier_parameters(depth: int, vocab_size: int, millions: float) -> None:
    with torch.device("meta"):
        assert round(GPT(GPTConfig.from_options(depth, vocab_size, 512)).num_parameters / 1e6, 1) == millions


def test_causality() -> None:
    gpt = random_gpt()
    text = ids(2, 20)
    before = gpt(text)
    for place in range(1, 20):
        changed = text.clone()
        changed[:, place] = (changed[:, place] + 1) % 50
        after = gpt(changed)
        torch.testing.assert_close(after[:, :place], before[:, :place], rtol=0, atol=1e-6)
        assert not torch.allclose(after[:, place:], before[:, place:])


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("pieces", [[1] * 20, [19, 1], [7, 6, 7], [20]])
def test_kv_cache_equals_full_forward(kv_heads: int, pieces: list[int]) -> None:
    gpt = random_gpt(kv_heads=kv_heads)
    text = ids(3, 20)
    cache = gpt.new_cache(batch=3)
    cached = torch.cat([gpt(piece, cache) for piece in text.split(pieces, dim=1)], dim=1)
    torch.testing.assert_close(cached, gpt(text), rtol=0, atol=2e-5)
    assert cache.position == 20


def test_grouped_query_attention() -> None:
    grouped, full = random_gpt(kv_heads=2), random_gpt(kv_heads=4)
    full.load_state_dict(
        {
            name: w.view(2, 16, 64).repeat_interleave(2, dim=0).reshape(64, 64) if "c_k" in name or "c_v" in name else w
            for name, w in grouped.state_dict().items()
        }
    )
    torch.testing.assert_close(grouped(ids(2, 20)), full(ids(2, 20)), rtol=0, atol=2e-5)


def test_initial_loss_is_uniform() -> None:
    losses = GPT(GPTConfig.from_options(depth=2, vocab_size=300, context=8)).losses(ids(2, 8, 300), ids(2, 8, 300))
    torch.testing.assert_close(losses, torch.full_like(losses, math.log(300)))


def test_logits_are_capped_float32() -> None:
    gpt = random_gpt().bfloat16()
    with torch.no_grad():
        gpt.lm_head.weight.mul_(1000)
    logits = gpt(ids(1, 8))
    assert logits.dtype == torch.float32
    assert 14 < logits.abs().max() <= 15


def test_loss_is_cross_entropy() -> None:
    gpt, text, targets = random_gpt(), ids(2, 10), ids(2, 10).flip(1)
    expected = F.cross_entropy(gpt(text).flatten(0, 1), targets.flatten(), reduction="none").view(2, 10)
    torch.testing.assert_close(gpt.losses(text, targets), expected)


def test_ignored_targets() -> None:
    gpt, targets = random_gpt(), ids(2, 10).clone()
    targets[0] = IGNORE
    losses = gpt.losses(ids(2, 10), targets)
    assert losses[0].eq(0).all()
    assert losses[1].gt(0).all()
    losses[0].sum().backward()
    assert all(p.grad is None or p.grad.eq(0).all() for p in gpt.parameters())


def test_chunked_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
        gpt = random_gpt()
        losses = gpt.losses(ids(2, 10), ids(2, 10))
        losses.sum().backward()
        assert gpt.lm_head.weight.grad is not None
        return losses.detach(), gpt.lm_head.weight.grad

    whole = loss_and_gradient()
    monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", 3 * 50)  # three tokens at a time
    torch.testing.assert_close(loss_and_gradient(), whole)


def test_rotation_direction_and_invariance() -> None:
    cos, sin = rotation_table(64, 8)
    query, key = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))

    def score(a: int, b: int) -> torch.Tensor:
        turned_query = rotate(query, cos[a : a + 1], sin[a : a + 1])
        return (turned_query * rotate(key, cos[b : b + 1], sin[b : b + 1])).sum()

    torch.testing.assert_close(score(10, 3), score(50, 43))
    assert not torch.isclose(score(10, 3), score(10, 4))
    # a pair (1, 0) at position 1, whose first frequency is 1: (cos 1, -sin 1)
    cos, sin = rotation_table(2, 2)
    turned = rotate(torch.tensor([1.0, 0.0]).view(1, 1, 1, 2), cos[1:], sin[1:])
    torch.testing.assert_close(turned.flatten(), torch.tensor([math.cos(1), -math.sin(1)]))


def test_overfits_one_batch() -> None:
    gpt = random_gpt()
    text = ids(4, 17)
    optimizer = torch.optim.Adam(gpt.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = gpt.losses(text[:, :-1], text[:, 1:]).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_row_longer_than_context() -> None:
    gpt = random_gpt()
    with pytest.raises(ValueError, match="33 tokens is longer than the model's context of 32"):
        gpt(ids(1, 33))
    cache = gpt.new_cache(batch=1)
    gpt(ids(1, 32), cache)
    with pytest.raises(ValueError, match="longer"):
        gpt(ids(1, 1), cache)


def test_autocast_residual_stream_dtype() -> None:
    gpt = random_gpt()
    with torch.autocast("cpu", torch.bfloat16):
        hidden, losses = gpt.hidden(ids(1, 8)), gpt.losses(ids(1, 8), ids(1, 8))
    assert (hidden.dtype, losses.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(losses, gpt.losses(ids(1, 8), ids(1, 8)), rtol=0.1, atol=0.2)


def test_flops_per_token() -> None:
    gpt = GPT(GPTConfig.from_options(depth=2, vocab_size=100, context=64, width=128, heads=2))
    in_products = 2 * 12 * 128**2 + 128 * 100
    assert gpt.num_matmul_parameters == in_products
    assert gpt.flops_per_token() == 6 * in_products + 12 * 2 * 128 * 64 // 2
