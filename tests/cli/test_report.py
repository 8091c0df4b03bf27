"""``report`` on real runs: its files, its output and its errors."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from nanochat.cli import main
from nanochat.reporting.schema import ReportCard, Stage
from nanochat.tokenizer import compression
from nanochat.training import provenance
from tests.cli.tools import tiny_options, train

CHAT = {
    "stage": "chat",
    "data": {"tasks": {"arithmetic": 2, "identity": 1}, "row_length": 60, "batch_size": 2, "tokens_per_step": 240},
    "scores": {"items": 4},
    "samples": {"max_tokens": 8},
}


@pytest.fixture(scope="module")
def root(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained model and the chat model fine-tuned from it."""
    folder = tmp_path_factory.mktemp("report")
    options = [*tiny_options(corpus_folder, folder), "--data.context=96", "--data.row_length=64"]
    train(options, folder)
    (folder / "chat.yaml").write_text(yaml.safe_dump(CHAT))
    tuned = [option for option in options if option.startswith(("--trainer.", "--name", "--model.muon"))]
    assert main(["fit", "--config", str(folder / "chat.yaml"), *tuned]) == 0
    return folder


def test_report_covers_all_stages(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compression, "REFERENCES", {"GPT-0": "no such encoding"})
    assert main(["report", f"--root={root}", "--dollars_per_hour=3600"]) == 0
    shown = capsys.readouterr().out
    folder = root / "lightning_logs" / "run"
    assert f"Written to {folder / 'report.md'} and report.json" in shown
    card: ReportCard = json.loads((folder / "report.json").read_text())
    assert set(card) == set(ReportCard.__annotations__)
    assert all(set(stage) == set(Stage.__annotations__) for stage in card["stages"])
    base, chat = card["stages"]
    assert (base["label"], base["run"], base["state"]) == ("BASE", "run/version_0", "finished")
    assert (chat["label"], chat["run"], chat["state"]) == ("CHAT", "run-chat/version_0", "finished")
    assert chat["began_with"] == f"{root}/lightning_logs/run/version_0/checkpoints/last.ckpt"
    assert not chat["by_name"]
    assert (base["figures"]["steps"], base["figures"]["tokens"]) == (4, 4 * 256)
    seconds = base["figures"]["seconds"]
    assert seconds is not None
    assert base["figures"]["dollars"] == pytest.approx(seconds)  # $3600 per hour is a dollar per second
    assert base["code"]["version"] == card["code"]["version"]
    assert set(chat["tasks"]) == {"arithmetic", "identity"}
    assert card["tokenizer"] is not None
    assert card["tokenizer"]["absent"] == ["GPT-0"]
    assert card["tokenizer"]["vocab_size"] == 300
    assert list(dict.fromkeys(sample["label"] for sample in card["samples"])) == ["BASE", "CHAT"]
    assert [item["what"] for item in card["missing"]] == [
        "RL",
        "CORE of BASE",
        "ChatCORE of CHAT",
        "compression of GPT-0",
    ]
    page = (folder / "report.md").read_text()
    assert page.startswith("# Report card: run\n")
    assert all(item["command"] in page for item in card["missing"] if item["command"] is not None)


def test_a_damaged_checkpoint_has_no_samples(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compression, "REFERENCES", {})
    shutil.copytree(root / "lightning_logs" / "run" / "version_0", tmp_path / "lightning_logs" / "run" / "version_0")
    checkpoint = tmp_path / "lightning_logs" / "run" / "version_0" / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    assert main(["report", f"--root={tmp_path}", f"--out={tmp_path / 'elsewhere'}"]) == 0
    capsys.readouterr()
    card: ReportCard = json.loads((tmp_path / "elsewhere" / "report.json").read_text())
    reasons = {item["what"]: item["why"] for item in card["missing"]}
    assert "is not a whole checkpoint" in reasons["samples of BASE"]
    assert "is not a whole checkpoint" in reasons["tokenizer"]
    assert (card["samples"], card["tokenizer"]) == ([], None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--root=nowhere"], "there is no run in nowhere/lightning_logs: train a model first"),
        (["--name=unknown"], "--name=unknown is neither a run in"),
        (["--dollars_per_hour=-1"], "--dollars_per_hour must be 0 or more, not -1"),
        ([f"--out={__file__}"], "test_report.py is a file: give a folder"),
        (["--sample=false"], "there is no option --sample, did you mean --samples?"),
    ],
)
def test_errors_are_one_line(root: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", f"--root={root}", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# --------------------------------------------------------------------------------------------- the commit of the code


def git(folder: Path, *words: str) -> None:
    author = ["-c", "user.name=someone", "-c", "user.email=someone@example.com"]
    subprocess.run(["git", "-C", str(folder), *author, *words], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_the_code_is_recorded(tmp_path: Path) -> None:
    package = tmp_path / "nanochat"
    package.mkdir()
    (package / "__init__.py").touch()
    assert provenance.code(package)["reason"] == "the code is not in a git repository"
    git(tmp_path, "init")
    assert provenance.code(package)["commit"] is None  # the repository does not track the package
    git(tmp_path, "add", "nanochat")
    assert provenance.code(package)["reason"] == "the repository has no commit yet"
    git(tmp_path, "commit", "-m", "first")
    clean = provenance.code(package)
    assert len(clean["commit"]) == 40
    assert (clean["dirty"], clean["reason"]) == (False, None)
    (tmp_path / "notes.txt").write_text("changes nothing")
    assert not provenance.code(package)["dirty"]
    (package / "new.py").touch()
    assert provenance.code(package)["dirty"]


def test_missing_git_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = provenance.code()
    assert (found["commit"], found["reason"]) == (None, "git is not installed")
