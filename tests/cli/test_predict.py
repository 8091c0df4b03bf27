"""``predict``: completions of the prompts in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import nanochat
from nanochat.cli import main
from nanochat.data.prompt_data import read_prompts
from tests.cli.tools import tiny_options, train
from tests.serving.checkpoints import write_run

QUIET = "--trainer.enable_progress_bar=false"
WORDS = ["A model", "The text", "One", "tokens come next", "x", "It reads", "rows"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_run(root, "tiny")
    write_run(root, "tiny-chat", is_chat=True)
    return root


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: the models are too small for more to be faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def predict(root: Path, prompts: str, *more: str, suffix: str = ".jsonl") -> list[dict[str, Any]]:
    path = root / f"prompts{suffix}"
    path.write_text(prompts, encoding="utf-8")
    out = root / "out.jsonl"
    out.unlink(missing_ok=True)
    options = ["--trainer.default_root_dir", str(root), "--ckpt_path=last", f"--data.prompts={path}"]
    assert main(["predict", *options, f"--completions.out={out}", QUIET, *more]) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_completions_are_in_the_order_of_the_prompts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--config", "configs/tiny.yaml", "--completions.max_tokens=9", "--completions.seed=5")
    lines = predict(root, "\n".join(WORDS[:3]) + "\n\n" + "\r\n".join(WORDS[3:]), *options, suffix=".txt")
    model = nanochat.load(root / "lightning_logs" / "tiny")
    wanted = [model.generate(word, seed=5 + n, max_tokens=9) for n, word in enumerate(WORDS)]
    assert [(line["prompt"], line["completion"]) for line in lines] == list(zip(WORDS, wanted, strict=True))
    assert all(0 < line["tokens"] <= 9 and line["finished"] in ("stop", "length") for line in lines)
    assert f"7 completions of {sum(line['tokens'] for line in lines)} tokens in " in capsys.readouterr().out


def test_batch_size_does_not_change_completions(root: Path) -> None:
    prompts = "\n".join(WORDS)
    options = ("--name=tiny", "--completions.max_tokens=12")
    by_batch_size = [predict(root, prompts, f"--data.at_once={n}", *options, suffix=".txt") for n in (1, 3, 100)]
    assert by_batch_size[0] == by_batch_size[1] == by_batch_size[2]
    assert len({line["completion"] for line in by_batch_size[0]}) > 4
    other = predict(root, prompts, "--seed_everything=7", *options, suffix=".txt")
    assert [line["completion"] for line in other] != [line["completion"] for line in by_batch_size[0]]


def test_chat_model_answers_prompts_and_messages(root: Path) -> None:
    asked = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    asked += [{"role": "user", "content": "again"}]
    records = [{"prompt": "hello", "id": 7}, {"messages": asked, "tag": "\u00e9"}]
    config = ["--config", "configs/tiny.yaml", "--config", "configs/chat.yaml"]
    greedy = ("--completions.temperature=0", "--completions.max_tokens=15")
    lines = predict(root, "\n".join(json.dumps(r) for r in records), *config, *greedy)
    model = nanochat.load("tiny", root)
    answers = [model.chat(messages, temperature=0, max_tokens=15) for messages in ("hello", asked)]
    assert [line.pop("completion") for line in lines] == answers
    assert [{k: v for k, v in line.items() if k not in ("tokens", "finished")} for line in lines] == records


def test_default_output_is_in_the_run_folder(root: Path) -> None:
    path = root / "some words.txt"
    path.write_text("A model\n")
    checkpoint = root / "lightning_logs" / "tiny" / "version_0" / "checkpoints" / "last.ckpt"
    options = [f"--ckpt_path={checkpoint}", f"--data.prompts={path}", "--completions.max_tokens=3", QUIET]
    assert main(["predict", *options]) == 0
    folder = checkpoint.parent.parent / "completions"
    assert [p.name for p in folder.iterdir()] == ["some words.jsonl"]
    assert not (root / "lightning_logs" / "nanochat").exists()  # no new run is created


def test_predict_after_fit(corpus_folder: Path, tmp_path: Path) -> None:
    short = ("--trainer.max_steps=1", "--data.validations=1", "--data.validate_all=false", "--samples.max_tokens=1")
    train(tiny_options(corpus_folder, tmp_path), tmp_path, *short)
    lines = predict(tmp_path, "the model", "--name=run", "--completions.max_tokens=5", suffix=".txt")
    assert [line["prompt"] for line in lines] == ["the model"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"prompt": "a"}\n\n{"prompt": 3}', "p.jsonl, line 3: the prompt must be a text"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt"', "p.jsonl, line 2: it is not JSON"),
        ("p.jsonl", '{"text": "a"}', 'p.jsonl, line 1: it must be {"prompt": "..."} or {"messages": [...]}'),
        ("p.jsonl", "[" * 100_000, "p.jsonl, line 1: it is not JSON"),
        ("p.jsonl", '{"prompt": "\\ud800"}', "p.jsonl, line 1: the prompt is not valid Unicode"),
        ("p.jsonl", '{"messages": [{"role": "user"}]}', 'p.jsonl, line 1: it has "messages", but this is a base model'),
        ("p.txt", "a\n" + 300 * "b", "p.txt, line 2: 301 tokens leave no room in the model's context of 256"),
        ("p.txt", "\n \n", "has no prompts"),
        ("p.csv", "a", "the file of prompts must be .txt or .jsonl"),
    ],
)
def test_invalid_lines_are_reported(
    name: str, content: str, message: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(content)
    options = ["--name=tiny", f"--trainer.default_root_dir={root}", "--ckpt_path=last", QUIET]
    assert main(["predict", *options, f"--data.prompts={tmp_path / name}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ckpt_path=last"], "--data.prompts is missing"),
        ([], "predict needs a checkpoint: --ckpt_path=last"),
        (["--ckpt_path=last", "--name=tony"], "there is no last checkpoint below"),
        (["--ckpt_path=last", "--data.prompts=none.txt"], "cannot read the prompts none.txt: No such file"),
        (["--ckpt_path=last", "--data.prompts=README.md"], "the file of prompts must be .txt or .jsonl"),
        (["--ckpt_path=last", "--completions.temperature=-1"], "temperature must be 0 or more"),
        (["--ckpt_path=last", "--completions.max_tokens=0"], "--completions.max_tokens must be at least 1"),
        (["--ckpt_path=last", "--data.at_once=0"], "--data.at_once must be at least 1"),
        (["--ckpt_path=last", "--model.depth=9"], "has depth 1 instead of 9"),
        (["--ckpt_path=last", "--trainer.devices=2"], "predict runs on one device"),
    ],
)
def test_errors_are_one_line(
    options: list[str], message: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a")
    given = [] if any("prompts" in option for option in options) or options == ["--ckpt_path=last"] else [str(words)]
    line = ["--name=tiny", f"--trainer.default_root_dir={root}", *(f"--data.prompts={w}" for w in given), *options]
    assert main(["predict", *line, QUIET]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_prompts_are_not_overwritten(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}')
    options = ["--name=tiny", f"--trainer.default_root_dir={root}", "--ckpt_path=last", f"--data.prompts={path}"]
    assert main(["predict", *options, f"--completions.out={path}"]) == 2
    assert "is the prompts file" in capsys.readouterr().err
    assert path.read_text() == '{"prompt": "a"}'


def test_invalid_utf_8_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(b"\xef\xbb\xbfa\nb\xff\n")
    with pytest.raises(ValueError, match="line 2: it is not UTF-8"):
        list(read_prompts(path))
    path.write_bytes(b"\xef\xbb\xbfa\n")
    assert list(read_prompts(path)) == [(1, {"prompt": "a"})]
