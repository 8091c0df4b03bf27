"""The training step of a trace: its loss, gradients and updates are those of the training loop, on a copy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nanochat.model import IGNORE
from nanochat.serving.model import Model, load
from nanochat.tracing.document import Chapter, Table, format_number
from nanochat.tracing.trace_model import TraceOptions, trace_model
from nanochat.tracing.training_step import training_chapter, training_example
from tests.serving.checkpoints import attentive_model, write_checkpoint
from tests.tracing.test_trace_model import all_statements_are_found, sections_of


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "last.ckpt"
    write_checkpoint(path, is_chat=True)
    return path


def rows_of(chapter: Chapter, title: str) -> dict[str, tuple[str, ...]]:
    """The rows of a section's table by their first cell."""
    table = sections_of([chapter])[title].figures[0]
    assert isinstance(table, Table)
    return {row[0]: tuple(row[1:]) for row in table.rows}


def test_only_a_copy_is_trained(checkpoint: Path) -> None:
    model = load(checkpoint)
    before = {name: weight.clone() for name, weight in model.gpt.state_dict().items()}
    content = checkpoint.read_bytes()
    chapters = trace_model(model, TraceOptions("a list", train=True, text="it is a row of words"))
    assert checkpoint.read_bytes() == content
    assert all(torch.equal(weight, before[name]) for name, weight in model.gpt.state_dict().items())
    assert all_statements_are_found(chapters)


def test_losses_and_updates(checkpoint: Path) -> None:
    model = load(checkpoint)
    chapter = training_chapter(model, "a list", "it is a row of words")
    updates = rows_of(chapter, "Weight updates")
    assert updates["embedding"][0].startswith("AdamW")
    assert updates["attn.c_q"][0].startswith("Muon")
    assert all(float(row[2]) > 0 for row in updates.values())
    ids, targets, _ = training_example(model, "a list", "it is a row of words")
    has_target = targets != IGNORE
    assert model.tokenizer.decode(targets[has_target].tolist()) == "it is a row of words"
    mean = float(model.gpt.losses(ids[None], targets[None])[0][has_target].mean())
    sections = sections_of([chapter])
    assert f"The mean loss is {mean:.3f}, over {int(has_target.sum())} tokens" in sections["Loss"].text
    assert f"the mean loss falls from {mean:.3f} to" in sections["Loss after the step"].text


def test_gradients_are_those_of_the_mean_loss(checkpoint: Path) -> None:
    model = load(checkpoint)
    ids, targets, _ = training_example(model, "a list", "of words")
    gpt = model.gpt.requires_grad_(True)
    losses = gpt.losses(ids[None], targets[None])
    (losses.sum() / (targets >= 0).sum()).backward()
    assert gpt.lm_head.weight.grad is not None
    head = format_number(float(gpt.lm_head.weight.grad.norm()))
    chapter = training_chapter(load(checkpoint), "a list", "of words")
    assert rows_of(chapter, "Gradients")["head"][0] == head


def test_calculator_output_has_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    model = attentive_model(True)
    parts = [("python", "12*34"), ("python_output", "408"), ("text", "It is 408.")]
    answer = SimpleNamespace(finished="stop", parts=[{"type": kind, "text": text} for kind, text in parts])
    monkeypatch.setattr(Model, "start", lambda *arguments, **options: answer)
    _, targets, _ = training_example(model, "What is 12 * 34?", None)
    learned = model.tokenizer.decode(targets[targets != IGNORE].tolist())
    assert "12*34" in learned
    assert learned.count("408") == 1  # in the answer, not in the calculator's output
