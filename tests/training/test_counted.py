"""What is counted before training: it helps, it is remembered, and later stages build on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import nanochat
from nanochat.data.packing import TokenStream
from nanochat.data.parts import PARTS, Part
from nanochat.data.text import TextDataModule
from nanochat.model.counted import CountedNgrams
from nanochat.optim.learning_rates import default_learning_rates
from nanochat.training.language_model import LanguageModel
from nanochat.training.model_files import read_model
from tests.cli.tools import metrics, newest, tiny_options, train

COUNTED = "--model.counted=3"


def saved(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return state


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Part | None, NDArray[Any]]]:
    """Each time that something is counted: which part of the text is left out, and the others."""
    seen: list[tuple[Part | None, NDArray[Any]]] = []
    original = TextDataModule.other_parts

    def other_parts(data: TextDataModule, part: Part | None, most: int) -> NDArray[Any]:
        seen.append((part, original(data, part, most)))
        return seen[-1][1]

    monkeypatch.setattr(TextDataModule, "other_parts", other_parts)
    return seen


def test_the_model_begins_with_what_was_counted(corpus_folder: Path, tmp_path: Path) -> None:
    options = tiny_options(corpus_folder, tmp_path)
    without = metrics(train(options, tmp_path, "--trainer.max_steps=2"), "val/bpb")[-1][1]
    run = train(options, tmp_path, "--trainer.max_steps=2", COUNTED)
    assert metrics(run, "val/bpb")[-1][1] < 0.7 * without
    state = saved(run)["state_dict"]
    assert len(state["gpt.counted.contexts"]) > 1000
    assert (state["gpt.counted.trust"] != 1).any()  # which is learned


def test_what_is_learned_from_is_not_counted_meanwhile(
    corpus_folder: Path, tmp_path: Path, counts: list[tuple[Part | None, NDArray[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a pass over the text: each of its eight parts is left out in its turn, and in the end nothing is."""
    steps = 0
    original = LanguageModel.on_train_batch_start

    def on_train_batch_start(module: LanguageModel, batch: Any, batch_idx: int) -> None:
        nonlocal steps
        steps += 1
        original(module, batch, batch_idx)
        part, others = counts[-1]
        assert part is not None
        data = module.data
        assert isinstance(data, TextDataModule)
        stream = TokenStream(data.pieces, data.seed)
        learned = stream.read(part.start, part.end - part.start)
        rows = np.lib.stride_tricks.sliding_window_view(learned, 64)
        assert (rows == batch[0][0].numpy()).all(1).any()
        assert len(learned) + len(others) == data.all_tokens

    monkeypatch.setattr(LanguageModel, "on_train_batch_start", on_train_batch_start)
    options = [*tiny_options(corpus_folder, tmp_path), "--data.batch_size=32", "--data.tokens_per_step=2048"]
    run = train(options, tmp_path, "--trainer.max_steps=34", COUNTED)
    assert steps == 34
    parts = [part for part, _ in counts[:-1] if part is not None]
    assert len(parts) == len(counts) - 1 > PARTS
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    last, everything = counts[-1]
    assert last is None
    kept, expected = saved(run)["state_dict"], CountedNgrams(3, 300)
    expected.count(everything)
    for name, tensor in expected.state_dict().items():
        assert name == "trust" or torch.equal(kept[f"gpt.counted.{name}"], tensor)


def test_the_head_takes_small_steps_in_the_text_that_was_counted(corpus_folder: Path, tmp_path: Path) -> None:
    options = [*tiny_options(corpus_folder, tmp_path), "--model.warmdown=0"]
    plain, counted = (metrics(train(options, tmp_path, *more), "lr-MuonAdamW/head")[-1][1] for more in ([], [COUNTED]))
    assert counted == pytest.approx(plain / 4)


def test_an_interruption_makes_no_difference(
    corpus_folder: Path, tmp_path: Path, counts: list[tuple[Part | None, NDArray[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*tiny_options(corpus_folder, tmp_path), COUNTED]
    whole = saved(train(options, tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(
            LanguageModel,
            "on_train_batch_end",
            lambda module, *_: setattr(module.trainer, "should_stop", module.global_step == 2),
        )
        first = train(options, tmp_path)
    assert saved(first)["global_step"] == 2
    again = saved(train(options, tmp_path, "--ckpt_path=last"))
    assert again["global_step"] == whole["global_step"] == 4
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(again["state_dict"][name], tensor), name
    assert [part is None for part, _ in counts] == [False, True] * 3  # all that was learned is counted at each end


def test_a_later_stage_knows_what_was_counted(
    corpus_folder: Path, tmp_path: Path, counts: list[tuple[Part | None, NDArray[Any]]]
) -> None:
    options = [*tiny_options(corpus_folder, tmp_path), COUNTED]
    base = train(options, tmp_path)
    chat = [
        f"--trainer.default_root_dir={tmp_path}",
        "--stage=chat",
        "--name=run",
        "--trainer.max_steps=2",
        "--trainer.log_every_n_steps=1",
    ]
    train(
        chat,
        tmp_path,
        "--data.tasks={arithmetic: 1}",
        "--data.row_length=64",
        "--data.batch_size=2",
        "--data.val_tokens=500",
        "--scores.items=0",
        "--trainer.precision=32-true",
    )
    assert len(counts) == 2  # all but a part, and all
    full = default_learning_rates(64, 128, 2, 16).head
    assert max(rate for _, rate in metrics(newest(tmp_path, "run-chat"), "lr-MuonAdamW/head")) == pytest.approx(full)
    before, after = (saved(run)["state_dict"] for run in (base, newest(tmp_path, "run-chat")))
    for name in ("contexts", "first", "tokens", "gains"):
        assert torch.equal(before[f"gpt.counted.{name}"], after[f"gpt.counted.{name}"])


def test_what_is_loaded_says_what_was_scored(corpus_folder: Path, tmp_path: Path) -> None:
    run = train([*tiny_options(corpus_folder, tmp_path), COUNTED], tmp_path)
    model = nanochat.load(run)
    state = {name.removeprefix("gpt."): tensor for name, tensor in saved(run)["state_dict"].items()}
    ids = torch.randint(0, 200, (1, 30))
    module = LanguageModel(depth=1, vocab_size=300, context=64, counted=3)
    module.gpt.load_state_dict(state)
    torch.testing.assert_close(model.gpt(ids), module.gpt(ids))
    stream = model.engine.decoder.new_stream()
    logits = model.engine.decoder.read([stream], [ids[0].tolist()])
    torch.testing.assert_close(logits, module.gpt(ids)[:, -1], rtol=1e-3, atol=1e-3)


def test_a_checkpoint_without_its_counts_is_refused(corpus_folder: Path, tmp_path: Path) -> None:
    run = train([*tiny_options(corpus_folder, tmp_path), COUNTED], tmp_path)
    path = run / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    del state["state_dict"]["gpt.counted.tokens"]
    torch.save(state, path)
    with pytest.raises(ValueError, match="not a checkpoint of this project"):
        read_model(path)


class TwoPasses(TokenStream):
    """A stream of which each pass over the documents has 100 tokens, in stretches of 40, 40 and 20."""

    def __init__(self) -> None:
        self._stretches: list[Any] = []

    def _next_stretch(self) -> Any:
        from nanochat.data.packing import Stretch

        number = len(self._stretches)
        start = 100 * (number // 3) + 40 * (number % 3)
        return Stretch(number // 3, (0, number % 3), start, start + (20 if number % 3 == 2 else 40))


@pytest.mark.parametrize(("most", "expected"), [(10, 10), (40, 40), (100, 100), (1000, 100)])
def test_no_document_is_counted_twice(most: int, expected: int) -> None:
    assert TwoPasses().first_pass(most) == expected
