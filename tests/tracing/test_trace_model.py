"""The numbers of a trace are the model's own, and so is what a step of training does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from nanochat.model import GPT, GPTConfig, fused, loss
from nanochat.model.layers import Attention
from nanochat.serving.model import Model, load
from nanochat.tokenizer import prompt_ids
from nanochat.tracing.activation_recorder import record
from nanochat.tracing.block import neurons
from nanochat.tracing.document import AttentionMaps, BarChart, Chapter, Table, token_text
from nanochat.tracing.source import Source
from nanochat.tracing.trace_model import TraceOptions, trace_model
from tests.serving.checkpoints import attentive_model, write_checkpoint

SIZES = {"depth": 3, "vocab_size": 300, "context": 512, "width": 64, "heads": 4}


def lively(**sizes: int) -> GPT:
    """A model of random weights, none of them zero."""
    torch.manual_seed(0)
    gpt = GPT(
        GPTConfig.from_options(**{"depth": 3, "vocab_size": 300, "context": 512, "width": 64, "heads": 4, **sizes})
    )  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.normal_(std=0.15)
    return gpt.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("sizes", "length"),
    [
        ({}, 20),
        ({"kv_heads": 2}, 20),
        ({}, 300),  # a long row: torch's own attention
        ({}, 1),
        ({"depth": 1}, 7),
    ],
)
def test_a_recording_is_the_models_own_forward_pass(sizes: dict[str, int], length: int) -> None:
    gpt = lively(**sizes)
    ids = torch.randint(300, (length,), generator=torch.Generator().manual_seed(1))
    plain = gpt(ids[None])[0]
    recording = record(gpt, ids)
    assert torch.equal(recording.logits, plain)
    assert len(recording.blocks) == gpt.config.n_layer
    by_torch = length > fused.SHORT_ROW[torch.float32] or "kv_heads" in sizes
    stream = recording.start
    for block, mine in zip(recording.blocks, gpt.blocks, strict=True):
        assert torch.equal(block.before, stream)
        assert torch.equal(block.before + block.attention_out, block.middle)
        assert torch.equal(block.middle + block.mlp_out, block.after)
        stream = block.after
        assert (block.attention_by is F.scaled_dot_product_attention) == by_torch
        # shares of q k^T times v are what the heads gathered, and through the last matrix what the module returned
        gathered = block.shares() @ block.grouped(block.value.transpose(0, 1))
        torch.testing.assert_close(gathered, block.attended, atol=1e-5, rtol=1e-5)
        laid = gathered.transpose(0, 1).flatten(1)
        assert isinstance(mine.attn, Attention)
        torch.testing.assert_close(mine.attn.c_proj(laid), block.attention_out, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mine.mlp.c_proj(neurons(mine, block.mlp_in)), block.mlp_out, atol=1e-5, rtol=1e-5)
        rotated, _ = block.rotated(gpt.cos[:length], gpt.sin[:length])
        normed = F.rms_norm(rotated, (rotated.size(-1),)).transpose(0, 1)
        torch.testing.assert_close(normed, block.turned_query, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(recording.raw, recording.hidden @ gpt.lm_head.weight.T)
    torch.testing.assert_close(recording.logits, loss.softcap(recording.raw))


def test_a_recording_leaves_no_trace() -> None:
    gpt = lively()
    ids = torch.arange(5)
    before = fused.norm, fused.attention
    record(gpt, ids)
    assert (fused.norm, fused.attention) == before
    assert not any(module._forward_hooks for module in gpt.modules())
    with pytest.raises(ValueError, match="longer than the model's context"):
        record(gpt, torch.zeros(600, dtype=torch.int64))
    assert (fused.norm, fused.attention) == before
    assert not any(module._forward_hooks for module in gpt.modules())


def test_nobody_looks_ahead() -> None:
    shares = record(lively(), torch.arange(9)).blocks[1].shares()
    assert shares.triu(1).abs().max() == 0
    torch.testing.assert_close(shares.sum(-1), torch.ones(4, 9))


def all_sources(parts: list[Chapter]) -> list[Source]:
    return [source for part in parts for step in part.steps for source in step.sources]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "last.ckpt"
    write_checkpoint(path, is_chat=True)
    return path


@pytest.mark.parametrize("is_chat", [True, False])
def test_a_trace_tells_the_way_from_text_to_choice(is_chat: bool) -> None:
    model = attentive_model(is_chat)
    parts = trace_model(model, TraceOptions("a list of words"))
    steps = {step.title: step for part in parts for step in part.steps}
    assert all(source.found for source in all_sources(parts)), "a statement that is no longer in the code"
    (tokens,) = steps["Tokens"].figures
    assert isinstance(tokens, Table)
    ids = prompt_ids(model.tokenizer, "a list of words", is_chat)
    assert [int(row[1]) for row in tokens.rows] == ids
    assert ("<|assistant_start|>" in {row[2] for row in tokens.rows}) == is_chat
    logits = model.gpt(torch.tensor(ids)[None])[0, -1]
    (choice,) = steps["The choice"].figures
    assert isinstance(choice, Table)

    assert choice.rows[0][1] == token_text(model.tokenizer, int(logits.argmax()))
    bars = steps["Probabilities"].figures[0]
    assert isinstance(bars, BarChart)
    assert bars.rows[0][1] == pytest.approx(float(torch.softmax(logits, 0).max()), rel=1e-5)
    assert sum(share for _, share in bars.rows) == pytest.approx(1)
    looks = steps["Attention: who looks at whom"].figures[1]
    assert isinstance(looks, AttentionMaps)
    torch.testing.assert_close(looks.shares, record(model.gpt, torch.tensor(ids)).blocks[0].shares())
    assert parts[1].title == f"Block 1 of {model.gpt.config.n_layer}"


def test_there_is_no_such_block() -> None:
    model = attentive_model()
    with pytest.raises(ValueError, match=f"the blocks 1 to {model.gpt.config.n_layer}"):
        trace_model(model, TraceOptions("text", layer=9))


def test_a_prompt_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="the model's context takes in 256"):
        trace_model(attentive_model(), TraceOptions("word " * 400))


def changes(parts: list[Chapter]) -> dict[str, tuple[str, ...]]:
    step = next(step for step in parts[-1].steps if step.title == "What the optimizer changes")
    table = step.figures[0]
    assert isinstance(table, Table)
    return {row[0]: tuple(row[1:]) for row in table.rows}


def test_a_step_of_training_learns_on_a_copy(checkpoint: Path) -> None:
    model: Model = load(checkpoint)
    before = {name: weight.clone() for name, weight in model.gpt.state_dict().items()}
    content = checkpoint.read_bytes()
    parts = trace_model(model, TraceOptions("a list", train=True, text="it is a row of words"))
    assert checkpoint.read_bytes() == content
    assert all(torch.equal(weight, before[name]) for name, weight in model.gpt.state_dict().items())
    assert all(source.found for source in all_sources(parts))
    rows = changes(parts)
    assert rows["embedding"][0].startswith("AdamW")
    assert rows["attn.c_q"][0].startswith("Muon")
    assert all(float(row[2]) > 0 for row in rows.values())
    from nanochat.model import IGNORE
    from nanochat.tracing.training_step import material

    ids, targets, _ = material(model, "a list", "it is a row of words")
    learned = targets != IGNORE
    assert model.tokenizer.decode(targets[learned].tolist()) == "it is a row of words"
    mean = float(model.gpt.losses(ids[None], targets[None])[0][learned].mean())
    told = {step.title: step.text for step in parts[-1].steps}
    assert f"The mean here is {mean:.3f}, over {int(learned.sum())} tokens" in told["The loss"]
    assert f"instead of {mean:.3f}: the model is less surprised" in told["The loss afterwards"]


def test_gradients_are_those_of_the_plain_loss(checkpoint: Path) -> None:
    from nanochat.tracing.document import number
    from nanochat.tracing.training_step import material, training_chapter

    model = load(checkpoint)
    ids, targets, _ = material(model, "a list", "of words")
    gpt = model.gpt.requires_grad_(True)
    losses = gpt.losses(ids[None], targets[None])
    (losses.sum() / (targets >= 0).sum()).backward()
    assert gpt.lm_head.weight.grad is not None
    head = number(float(gpt.lm_head.weight.grad.norm()))
    part = training_chapter(load(checkpoint), "a list", "of words")
    table = next(step for step in part.steps if step.title == "Gradients").figures[0]
    assert isinstance(table, Table)
    assert {row[0]: row[1] for row in table.rows}["head"] == head


def test_a_chat_model_learns_its_calls_and_not_what_the_calculator_told_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from nanochat.model import IGNORE
    from nanochat.tracing.training_step import material

    model = attentive_model(True)
    parts = [("python", "12*34"), ("python_output", "408"), ("text", "It is 408.")]
    answer = SimpleNamespace(finished="stop", parts=[{"type": kind, "text": text} for kind, text in parts])
    monkeypatch.setattr(Model, "start", lambda *arguments, **options: answer)
    _, targets, _ = material(model, "What is 12 * 34?", None)
    learned = model.tokenizer.decode(targets[targets != IGNORE].tolist())
    assert "12*34" in learned
    assert learned.count("408") == 1  # of the two, the one that it says
