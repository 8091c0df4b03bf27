"""``export`` and ``import`` as a user calls them: there and back again, trained on, and every mistake in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from nanochat.cli import main
from nanochat.exchange import write_folder
from nanochat.tokenizer import Tokenizer
from nanochat.training.checkpoint.saved_model import read_model
from tests.cli.test_errors import error_of
from tests.cli.tools import metrics, tiny_options, train
from tests.exchange.samples import random_model


@pytest.fixture(scope="module")
def run(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    return train([*tiny_options(corpus_folder, root), "--model.width=128", "--model.kv_heads=1"], root)


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    assert main(["export", "--ckpt_path=last", "--name=run", f"--root={run.parents[2]}", f"--out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def imported(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "mine.ckpt"
    assert main(["import", f"--folder={exported}", f"--out={out}"]) == 0
    return out


def test_an_export_says_what_the_checkpoint_says(run: Path, exported: Path) -> None:
    saved = read_model(run / "checkpoints" / "last.ckpt")
    model = AutoModelForCausalLM.from_pretrained(exported)
    assert torch.equal(model.model.layers[0].mlp.fc2.weight, saved.weights["transformer.h.0.mlp.c_proj.weight"])
    text = "the model reads 12 texts\n\n"
    assert AutoTokenizer.from_pretrained(exported)(text).input_ids == saved.tokenizer.encode(text)
    card = (exported / "README.md").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert "| trained | 4 steps, 1,024 tokens |" in card
    assert f"| val/bpb | {summary['val_bpb']:.4f} bits per byte" in card


def test_there_and_back_the_weights_are_the_same_bits(run: Path, imported: Path) -> None:
    before, after = read_model(run / "checkpoints" / "last.ckpt"), read_model(imported)
    assert all(torch.equal(after.weights[name], tensor) for name, tensor in before.weights.items())
    assert after.tokenizer.to_dict() == before.tokenizer.to_dict()
    assert after.gpt.config == before.gpt.config
    assert after.gpt.context == before.gpt.context
    assert (before.step, after.step) == (4, 0)


def test_the_score_is_the_same(run: Path, imported: Path, corpus_folder: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    capsys.readouterr()
    assert main(["validate", *sizes_and_corpus(imported, corpus_folder)]) == 0
    final = json.loads((run / "summary.json").read_text())["val_bpb"]
    assert f"val/bpb {final:.4f} on" in capsys.readouterr().out


def sizes_and_corpus(imported: Path, corpus: Path) -> list[str]:
    """The options that ``import`` prints for the user."""
    options = [f"--config={imported.with_suffix('.yaml')}", f"--ckpt_path={imported}", f"--data.corpus={corpus}"]
    return [*options, "--trainer.precision=32-true", "--model.muon_every=1"]


def test_it_trains_on(run: Path, imported: Path, corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    capsys.readouterr()
    steps = ["--trainer.max_steps=2", "--trainer.log_every_n_steps=1", f"--trainer.default_root_dir={tmp_path}"]
    options = [*sizes_and_corpus(imported, corpus_folder), "--name=run", *steps]
    assert main(["fit", *options]) == 0
    printed = capsys.readouterr()
    assert f"Starting from the weights in {imported}: a new run, from step 0." in printed.out
    assert printed.err == ""
    mine = tmp_path / "lightning_logs" / "run" / "version_0"
    losses = metrics(mine, "train/loss")
    assert [step for step, _ in losses] == [0, 1]
    # the first loss is that of the weights it began with, not of fresh ones
    assert losses[0][1] < metrics(run, "train/loss")[-1][1] < metrics(run, "train/loss")[0][1]
    before, after = read_model(imported), read_model(mine / "checkpoints" / "last.ckpt")
    assert after.step == 2
    unchanged = [name for name, tensor in before.weights.items() if torch.equal(after.weights[name], tensor)]
    assert not unchanged
    assert after.tokenizer.to_dict() == before.tokenizer.to_dict()
    # and its own checkpoints are ordinary ones
    assert main(["fit", *options, "--ckpt_path=last", "--trainer.max_steps=3"]) == 0
    assert "Resuming from" in capsys.readouterr().out
    assert [step for step, _ in metrics(mine, "train/loss")] == [0, 1, 2]


def test_the_sizes_come_as_a_configuration(imported: Path) -> None:
    text = imported.with_suffix(".yaml").read_text()
    assert yaml.safe_load(text) == {
        "name": "mine",
        "model": {"depth": 1, "width": 128, "heads": 2, "kv_heads": 1},
        "data": {"vocab_size": 300, "context": 64},
    }
    assert f"--ckpt_path={imported}" in text


def test_import_keeps_the_tokenizer(imported: Path, corpus_folder: Path, tmp_path: Path) -> None:
    """Another pattern, other special tokens, unused ids; and a checkpoint that lies where a run's would."""
    tokens = read_model(imported).tokenizer.tokens
    tokenizer = Tokenizer(tokens, 320, r"\p{L}+|\P{L}", {"<|bos|>": 0, "<|end|>": 310})
    gpt = random_model(320, depth=1, width=64, context=32)
    write_folder(tmp_path / "model", gpt, gpt.state_dict(), tokenizer)
    runs = tmp_path / "lightning_logs" / "run"
    out = runs / "version_3" / "checkpoints" / "last.ckpt"
    assert main(["import", f"--folder={tmp_path / 'model'}", f"--out={out}"]) == 0
    content = out.read_bytes()
    options = [*sizes_and_corpus(out, corpus_folder), "--trainer.max_steps=1", f"--trainer.default_root_dir={tmp_path}"]
    assert main(["fit", *options, "--name=run"]) == 0
    assert out.read_bytes() == content
    last = read_model(runs / "version_4" / "checkpoints" / "last.ckpt")
    assert (last.step, last.tokenizer.to_dict()) == (1, tokenizer.to_dict())
    again = tmp_path / "again"
    assert main(["export", "--ckpt_path=best", "--name=run", f"--root={tmp_path}", f"--out={again}"]) == 0
    text = "the model 42"
    assert AutoTokenizer.from_pretrained(again)(text).input_ids == tokenizer.encode(text)


OPTIONS = {"export": ("ckpt_path", "out", "format", "name", "root"), "import": ("folder", "out")}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_help_explains_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    for option in (*OPTIONS[name], "overwrite"):
        entry = re.search(rf"^  --{option} .*(?:\n {{6,}}.*)*", text, re.MULTILINE)
        assert entry, option
        description = re.sub(r"\s+", " ", entry[0]).split(" (")[0].split(" ", 3)[-1]
        assert len(description) > 10, entry[0]


def test_mistakes_of_an_export(run: Path, exported: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    def said(*options: str) -> str:
        return error_of(["export", *options], capsys)

    last = f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"
    out = f"--out={tmp_path / 'model'}"
    assert "there is no option --ckptpath, did you mean --ckpt_path?" in said("--ckptpath=x", out)
    assert "--ckpt_path and --out must be given" in said()
    assert "--format=gguf is not possible: expected one of 'hf'" in said(last, out, "--format=gguf")
    assert "there is no best checkpoint below" in said("--ckpt_path=best", out, f"--root={tmp_path}")
    assert "there is no checkpoint gone.ckpt" in said("--ckpt_path=gone.ckpt", out)
    assert "is not empty: give another one, or --overwrite" in said(last, f"--out={exported}")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    assert "other.ckpt is not a checkpoint of this project" in said(f"--ckpt_path={tmp_path / 'other.ckpt'}", out)
    content = (run / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(content[: len(content) // 2])
    assert "half.ckpt is not a whole checkpoint" in said(f"--ckpt_path={tmp_path / 'half.ckpt'}", out)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    del checkpoint["state_dict"]["gpt.lm_head.weight"]
    torch.save(checkpoint, tmp_path / "part.ckpt")
    assert "its weights do not fit its sizes" in said(f"--ckpt_path={tmp_path / 'part.ckpt'}", out)
    assert not (tmp_path / "model").exists()
    assert main(["export", last, f"--out={exported}", "--overwrite"]) == 0


def test_mistakes_of_an_import(exported: Path, imported: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    def said(*options: str) -> str:
        return error_of(["import", *options], capsys)

    out = f"--out={tmp_path / 'new.ckpt'}"
    assert "there is no folder nowhere" in said("--folder=nowhere", out)
    assert "give a file whose name ends in .ckpt" in said(f"--folder={exported}", f"--out={tmp_path / 'new'}")
    assert f"there is already {imported}: give another --out, or --overwrite" in said(
        f"--folder={exported}", f"--out={imported}"
    )
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        bad = tmp_path / f"bad-{name}"
        bad.mkdir()
        for path in exported.iterdir():
            (bad / path.name).write_bytes(path.read_bytes()[: 200 if path.name == name else None])
        assert name in said(f"--folder={bad}", out)
    (bad / "tokenizer.json").rename(bad / "tokenizer.pkl")
    assert "tokenizer.pkl is a pickle, which is never read here" in said(f"--folder={bad}", out)
    assert not (tmp_path / "new.ckpt").exists()
    assert not (tmp_path / "new.yaml").exists()
    assert main(["import", f"--folder={exported}", f"--out={imported}", "--overwrite"]) == 0


def test_training_on_with_other_sizes(imported: Path, corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    message = error_of(["fit", *tiny_options(corpus_folder, tmp_path), f"--ckpt_path={imported}"], capsys)
    assert "has width 128 instead of 64" in message
    assert f"give --config {imported.with_suffix('.yaml')}" in message
    assert not (tmp_path / "lightning_logs").exists()


def test_weights_that_are_not_the_models(imported: Path, corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    checkpoint = torch.load(imported, weights_only=True)
    checkpoint["state_dict"]["gpt.transformer.h.0.more"] = torch.ones(1)
    torch.save(checkpoint, tmp_path / "more.ckpt")
    imported.with_suffix(".yaml").rename(tmp_path / "more.yaml")
    message = error_of(["fit", *sizes_and_corpus(tmp_path / "more.ckpt", corpus_folder)], capsys)
    (tmp_path / "more.yaml").rename(imported.with_suffix(".yaml"))
    assert "more.ckpt are not those of this model" in message
