"""The values in a trace are the model's own."""

from __future__ import annotations

import pytest
import torch

from nanochat.serving.model import Model
from nanochat.tokenizer import prompt_ids
from nanochat.tracing.activation_recorder import record
from nanochat.tracing.document import AttentionMaps, BarChart, Chapter, Section, Table, token_text
from nanochat.tracing.trace_model import TraceOptions, trace_model
from tests.serving.checkpoints import attentive_model


def sections_of(chapters: list[Chapter]) -> dict[str, Section]:
    return {section.title: section for chapter in chapters for section in chapter.sections}


def all_statements_are_found(chapters: list[Chapter]) -> bool:
    return all(source.found for section in sections_of(chapters).values() for source in section.sources)


@pytest.mark.parametrize("is_chat", [True, False])
def test_forward_pass(is_chat: bool) -> None:
    model = attentive_model(is_chat)
    chapters = trace_model(model, TraceOptions("a list of words"))
    sections = sections_of(chapters)
    assert all_statements_are_found(chapters), "a quoted statement is no longer in the code"
    (tokens,) = sections["Tokens"].figures
    assert isinstance(tokens, Table)
    ids = prompt_ids(model.tokenizer, "a list of words", is_chat)
    assert [int(row[1]) for row in tokens.rows] == ids
    assert ("<|assistant_start|>" in {row[2] for row in tokens.rows}) == is_chat
    logits = model.gpt(torch.tensor(ids)[None])[0, -1]
    (choice,) = sections["Next token"].figures
    assert isinstance(choice, Table)
    assert choice.rows[0][1] == token_text(model.tokenizer, int(logits.argmax()))
    bars = sections["Probabilities"].figures[0]
    assert isinstance(bars, BarChart)
    assert bars.rows[0][1] == pytest.approx(float(torch.softmax(logits, 0).max()), rel=1e-5)
    assert sum(probability for _, probability in bars.rows) == pytest.approx(1)
    maps = sections["Attention weights"].figures[1]
    assert isinstance(maps, AttentionMaps)
    torch.testing.assert_close(maps.weights, record(model.gpt, torch.tensor(ids)).blocks[0].attention_weights())
    assert chapters[1].title == f"Block 1 of {model.gpt.config.n_layer}"


def test_unknown_block() -> None:
    model: Model = attentive_model()
    with pytest.raises(ValueError, match=f"this model has blocks 1 to {model.gpt.config.n_layer}"):
        trace_model(model, TraceOptions("text", layer=9))


def test_prompt_longer_than_the_context() -> None:
    with pytest.raises(ValueError, match="the model's context is 256"):
        trace_model(attentive_model(), TraceOptions("word " * 400))
