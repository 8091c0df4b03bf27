"""Scores of chat tasks while a model is fine-tuned."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanochat.cli import main
from tests.cli.test_chat_fit import newest, options, pretrained
from tests.cli.tools import command, metrics

assert pretrained  # the fixture


def test_scores_every_few_steps_are_curves(pretrained: Path) -> None:
    more = ("--chat.every_n_steps=2", "--chat.max_per_task=3", "--chat.tasks=[arithmetic,spelling-bee]")
    result = command("fit", *options(pretrained, *more, "--trainer.max_steps=4"), cwd=pretrained)
    assert result.returncode == 0, result.stderr
    run = newest(pretrained)
    assert [step for step, _ in metrics(run, "chat/arithmetic")] == [1, 3]
    # the only one of the six
    assert metrics(run, "val/chatcore") == metrics(run, "chat/spelling-bee")
    assert all(0 <= value <= 1 for _, value in metrics(run, "val/chatcore"))
    assert "step 2  arithmetic" in result.stdout


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--chat.every_n_steps=-1", "--chat.every_n_steps must be at least 0"),
        ("--chat.max_per_task=0", "--chat.max_per_task must be at least 1"),
        ("--chat.tasks=[humaneval]", "humaneval is not available during training"),
    ],
)
def test_what_cannot_be_is_said(pretrained: Path, capsys: pytest.CaptureFixture[str], option: str, words: str) -> None:
    assert main(["fit", *options(pretrained, option)]) == 2
    assert words in capsys.readouterr().err
