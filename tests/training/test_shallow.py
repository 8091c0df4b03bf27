"""The lower half of the blocks learns alone at first: less work for the same model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nanochat.model import GPT
from nanochat.training.language_model import LanguageModel
from tests.cli.tools import metrics, tiny_options, train

SHALLOW = ("--model.depth=3", "--model.shallow=0.5", "--trainer.max_steps=8")


def weights(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return state


def loss_and_gradients(gpt: GPT, blocks: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    gpt.blocks_to_train = blocks
    gpt.zero_grad()
    ids = torch.arange(24).view(2, 12) % 7
    loss = gpt.loss(ids, ids + 1, torch.full(ids.shape, 1 / 24))[0]
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in gpt.named_parameters() if p.grad is not None}


def test_blocks_that_have_not_begun_to_learn_change_nothing_but_the_work() -> None:
    gpt = GPT(4, 9, 12, width=16, heads=2)
    torch.nn.init.normal_(gpt.head.weight)
    for block in gpt.blocks[:2]:
        for matrix in block.last_matrices:  # type: ignore[operator, union-attr]
            torch.nn.init.normal_(matrix, std=0.3)
    loss, gradients = loss_and_gradients(gpt, 4)
    shallow_loss, shallow = loss_and_gradients(gpt, 2)
    torch.testing.assert_close(shallow_loss, loss)
    assert {name for name in gradients if name not in shallow} == {
        name for name, _ in gpt.named_parameters() if name.startswith(("blocks.2.", "blocks.3."))
    }
    for name, gradient in shallow.items():
        torch.testing.assert_close(gradient, gradients[name])


def test_the_upper_half_begins_when_its_time_has_come(
    corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = tiny_options(corpus_folder, tmp_path)
    run = train(options, tmp_path, *SHALLOW)
    told = capsys.readouterr().out
    assert "the first 4 of blocks 1 to 2 alone" in told  # in the plan
    assert told.count("After 4 steps all blocks learn") == 1
    assert [blocks for _, blocks in metrics(run, "train/blocks")] == [2, 2, 2, 2, 3, 3, 3, 3]
    saved = weights(run)
    assert saved["grew_at"] == 4
    assert all(saved["state_dict"][f"gpt.blocks.{n}.mlp.contract.weight"].any() for n in range(3))


@pytest.mark.parametrize("stop", [3, 6])  # before the upper half has begun, and after
def test_an_interruption_makes_no_difference(
    stop: int, corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = tiny_options(corpus_folder, tmp_path)
    whole = weights(train(options, tmp_path, *SHALLOW))

    def stop_early(module: LanguageModel, *_: object) -> None:
        module.trainer.should_stop = module.global_step == stop

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "on_train_batch_end", stop_early)
        assert weights(train(options, tmp_path, *SHALLOW))["global_step"] == stop
    again = weights(train(options, tmp_path, *SHALLOW, "--ckpt_path=last"))
    assert again["grew_at"] == 4
    for name, weight in whole["state_dict"].items():
        torch.testing.assert_close(again["state_dict"][name], weight)


@pytest.mark.parametrize(("depth", "grows"), [(1, False), (2, True), (3, True)])
def test_only_fresh_blocks_may_wait(depth: int, grows: bool) -> None:
    module = LanguageModel(depth=depth, shallow=0.5)
    module._trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
    assert module._can_grow() is grows
    module._trainer = SimpleNamespace(world_size=2)  # type: ignore[assignment]
    assert not module._can_grow()  # the other one would wait for gradients
    module._trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
    with torch.no_grad():
        module.gpt.blocks[-1].mlp.contract.weight[0, 0] = 1e-3  # type: ignore[index, union-attr]
    assert not module._can_grow()  # it has learned before


def test_the_work_is_counted_as_it_was_done(corpus_folder: Path, tmp_path: Path) -> None:
    options = tiny_options(corpus_folder, tmp_path)
    run = train(options, tmp_path, "--model.depth=2", "--model.shallow=0.75", "--trainer.max_steps=8")
    gpt = GPT(2, 300, 64)
    facts = json.loads((run / "summary.json").read_text())
    assert facts["flops_per_token"] == 0.75 * gpt.flops_per_token(64, 1) + 0.25 * gpt.flops_per_token(64)
