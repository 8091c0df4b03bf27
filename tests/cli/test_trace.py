"""The ``trace`` command and its HTML page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nanochat.cli import main
from nanochat.serving.model import load
from nanochat.tokenizer import prompt_ids
from tests.cli.tools import newest, tiny_options, train


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> Path:
    root = tmp_path_factory.mktemp("trace")
    train(tiny_options(corpus_folder, root), root)
    return root


def test_terminal_and_page(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = root / "trace.html"
    options = ["--prompt=the <model> reads", "--name=run", f"--root={root}", f"--html={page}", "--train"]
    assert main(["trace", *options]) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    for title in ("Tokens", "Embedding", "Rotary positions and QK norm", "MLP", "Logits", "Next token", "Gradients"):
        assert re.search(rf"^ ?\d+ {title}$", output, re.MULTILINE), title
    model = load(newest(root))
    for position, token in enumerate(prompt_ids(model.tokenizer, "the <model> reads", model.is_chat)):
        assert re.search(rf"^   {position} +{token} ", output, re.MULTILINE)
    html = page.read_text(encoding="utf-8")
    assert "&lt;model&gt;" in html
    assert "<model>" not in html
    assert not re.search(r"(src|href)=\"https?:", html)
    for link in re.findall(r'<a class="location" href="([^"]+)"', html):
        assert (page.parent / link).resolve().is_file()
    assert main(["trace", *options]) == 2
    assert "there is already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer=2"], "this model has blocks 1 to 1"),
        (["--prompt= "], "--prompt is empty: give some text"),
        (["--text=more"], "add --train"),
        (["--ckpt_path=none.ckpt"], "there is no checkpoint none.ckpt"),
        (["--temperature=-1"], "temperature must be 0 or more"),
        (["--lyer=1"], "did you mean --layer?"),
    ],
)
def test_errors_are_one_line(root: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", f"--root={root}", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
