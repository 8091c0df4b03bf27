"""Recorded activations are those of the model's own forward pass."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nanochat.model import GPT, GPTConfig, fused, loss
from nanochat.tracing.activation_recorder import record
from nanochat.tracing.block import neurons


def random_gpt(**options: int) -> GPT:
    """A model with random weights, none of them zero."""
    torch.manual_seed(0)
    options = {"depth": 3, "vocab_size": 300, "context": 512, "width": 64, "heads": 4, **options}
    gpt = GPT(GPTConfig.from_options(**options))
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.normal_(std=0.15)
    return gpt.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, 20),
        ({"kv_heads": 2}, 20),
        ({}, 300),  # a long row: torch's own attention
        ({}, 1),
        ({"depth": 1}, 7),
    ],
)
def test_activations_match_the_forward_pass(options: dict[str, int], length: int) -> None:
    gpt = random_gpt(**options)
    ids = torch.randint(300, (length,), generator=torch.Generator().manual_seed(1))
    logits = gpt(ids[None])[0]
    activations = record(gpt, ids)
    assert torch.equal(activations.logits, logits)
    assert len(activations.blocks) == gpt.config.n_layer
    by_torch = length > fused.SHORT_ROW[torch.float32] or "kv_heads" in options
    stream = activations.first_input
    for act, block in zip(activations.blocks, gpt.blocks, strict=True):
        assert torch.equal(act.input, stream)
        assert torch.equal(act.input + act.attention_out, act.middle)
        assert torch.equal(act.middle + act.mlp_out, act.output)
        stream = act.output
        assert act.attended_by_torch == by_torch
        # attention weights times values are the head outputs, and these times c_proj are the module's output
        head_outputs = act.attention_weights() @ act.repeat_kv(act.value.transpose(0, 1))
        torch.testing.assert_close(head_outputs, act.head_outputs, atol=1e-5, rtol=1e-5)
        concatenated = head_outputs.transpose(0, 1).flatten(1)
        torch.testing.assert_close(block.attn.c_proj(concatenated), act.attention_out, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(block.mlp.c_proj(neurons(block, act.mlp_in)), act.mlp_out, atol=1e-5, rtol=1e-5)
        rotated, _ = act.rotated(gpt.cos[:length], gpt.sin[:length])
        normed = F.rms_norm(rotated, (rotated.size(-1),)).transpose(0, 1)
        torch.testing.assert_close(normed, act.normed_query, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(activations.raw_logits, activations.hidden @ gpt.lm_head.weight.T)
    torch.testing.assert_close(activations.logits, loss.softcap(activations.raw_logits))


def test_hooks_and_wrappers_are_removed() -> None:
    gpt = random_gpt()
    before = fused.norm, fused.attention
    record(gpt, torch.arange(5))
    assert (fused.norm, fused.attention) == before
    assert not any(module._forward_hooks for module in gpt.modules())
    with pytest.raises(ValueError, match="longer than the model's context"):
        record(gpt, torch.zeros(600, dtype=torch.int64))
    assert (fused.norm, fused.attention) == before
    assert not any(module._forward_hooks for module in gpt.modules())


def test_attention_is_causal() -> None:
    weights = record(random_gpt(), torch.arange(9)).blocks[1].attention_weights()
    assert weights.triu(1).abs().max() == 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 9))
