"""The commands that a finished run proposes, by kind of run and current folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from nanochat.data.chat_data import ChatDataModule
from nanochat.data.text_data import TextDataModule
from nanochat.training.callbacks import next_steps
from nanochat.training.callbacks.next_steps import chat_commands, fine_tune_commands
from nanochat.training.run_logger import RunLogger


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that is the current folder, with the environment in use and ``make`` installed."""
    (tmp_path / "configs").mkdir()
    for name in ("tiny", "small", "chat"):
        (tmp_path / "configs" / f"{name}.yaml").touch()
    (tmp_path / "Makefile").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(next_steps, "PROJECT", Path.cwd())
    monkeypatch.setattr(next_steps, "is_current", lambda environment: True)
    monkeypatch.setattr(next_steps.shutil, "which", lambda name: f"/usr/bin/{name}")
    return tmp_path


def run_of(name: str, root: str = ".") -> Path:
    return Path(root, "lightning_logs", name, "version_0")


@pytest.mark.parametrize(("tier", "command"), [("tiny", "make chat"), ("small", "make chat TIER=small")])
def test_make_chat(tier: str, command: str, project: Path) -> None:
    assert fine_tune_commands(run_of(tier), "nanochat") == [command]


@pytest.mark.parametrize("missing", ["make", "Makefile", "environment"])
def test_without_make(missing: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "make":
        monkeypatch.setattr(next_steps.shutil, "which", lambda name: None)
    elif missing == "Makefile":
        (project / "Makefile").unlink()
    else:  # the environment that `make` uses is not the active one
        monkeypatch.setattr(next_steps, "is_current", lambda environment: False)
    assert fine_tune_commands(run_of("tiny"), "python cli.py") == [
        "python cli.py fit --config configs/tiny.yaml --config configs/chat.yaml",
        "python cli.py chat",
    ]


def test_another_name_or_folder(project: Path) -> None:
    assert fine_tune_commands(run_of("my run"), "nanochat")[0] == (
        "nanochat fit --config configs/chat.yaml --name='my run' --start_from='lightning_logs/my run/version_0'"
    )
    assert fine_tune_commands(run_of("tiny", "elsewhere"), "nanochat")[0] == (
        "nanochat fit --config configs/chat.yaml --name=tiny --start_from=elsewhere/lightning_logs/tiny/version_0"
    )


def test_without_the_configuration_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fine_tune_commands(run_of("tiny"), "nanochat") == []


def test_chat(project: Path) -> None:
    assert chat_commands(run_of("tiny-chat"), "nanochat") == ["nanochat chat", "nanochat serve"]
    assert chat_commands(run_of("tiny-chat", "else where"), "nanochat")[0] == "nanochat chat --root='else where'"


@pytest.mark.parametrize(
    ("data", "purposes"),
    [
        (TextDataModule, ["fine-tune it", "see its curves", "score it", "train a deeper model"]),
        (ChatDataModule, ["chat, in the terminal", "see its curves", "score it"]),
    ],
)
def test_the_section(data: type, purposes: list[str], project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_steps, "data_of", lambda trainer: data.__new__(data))
    logger, config = RunLogger("lightning_logs", "tiny"), SimpleNamespace(n_layer=4)
    trainer = SimpleNamespace(
        logger=logger,
        log_dir=str(run_of("tiny")),
        lightning_module=SimpleNamespace(gpt=SimpleNamespace(config=config)),
    )
    text = next_steps.next_steps(trainer, "nanochat", "--config a.yaml ", "--config b.yaml ")  # type: ignore[arg-type]
    lines = text.splitlines()
    assert lines[0] == "Next"
    titles = [line for line in lines[1:] if not line.startswith("    ")]
    assert len(titles) == len(purposes)
    assert all(f"To {purpose}" in title for purpose, title in zip(purposes, titles, strict=True))
    assert "    nanochat validate --config b.yaml --ckpt_path=last" in lines
    assert ("    nanochat fit --config a.yaml --model.depth=6" in lines) is (data is TextDataModule)
    trainer.logger = None
    assert "tensorboard" not in next_steps.next_steps(trainer, "nanochat", "", "")  # type: ignore[arg-type]
