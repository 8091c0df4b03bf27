"""Fine-tuning end to end: where it starts from, what it leaves behind, and that it goes on exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from nanochat.cli import main
from tests.cli.tools import command, metrics, tiny_options, train
from tests.cli.tools import newest as newest_run

CHAT = {
    "stage": "chat",
    "data": {"tasks": {"arithmetic": 2, "identity": 1}, "row_length": 60, "batch_size": 2, "tokens_per_step": 240},
    "scores": {"items": 4},
    "samples": {"max_tokens": 8},
}


def write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def pretrained(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pretrained model called run, of another depth than the tier's file says, and the files."""
    root = tmp_path_factory.mktemp("pretrained")
    train(tiny_options(corpus_folder, root), root, "--data.context=96", "--data.row_length=64")
    tier = {
        "name": "run",
        "model": {"depth": 2, "muon_every": 1},
        "data": {"corpus": str(corpus_folder), "vocab_size": 512, "val_tokens": 500, "validations": 2},
        "samples": {"prompt": "only for pretraining"},
        "trainer": {"default_root_dir": str(root), "precision": "32-true", "max_steps": 6, "log_every_n_steps": 1},
    }
    write(root / "tier.yaml", tier)
    write(root / "chat.yaml", CHAT)
    return root


def options(root: Path, *more: str) -> list[str]:
    return ["--config", str(root / "tier.yaml"), "--config", str(root / "chat.yaml"), *more]


def newest(root: Path, name: str = "run-chat") -> Path:
    return newest_run(root, name)


@pytest.fixture(scope="module")
def finished(pretrained: Path) -> tuple[Path, str]:
    result = command("fit", *options(pretrained), cwd=pretrained)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return newest(pretrained), result.stdout


def test_it_starts_from_the_tiers_newest_model(pretrained: Path, finished: tuple[Path, str]) -> None:
    run, output = finished
    assert f"Starting from the weights in {newest(pretrained, 'run')}/checkpoints/last.ckpt" in output
    before = torch.load(newest(pretrained, "run") / "checkpoints" / "last.ckpt", weights_only=True)
    after = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    for size in ("depth", "vocab_size", "context"):  # the checkpoint's, not the tier's
        assert after["hyper_parameters"][size] == before["hyper_parameters"][size]
    assert after["ChatDataModule"]["tokenizer"] == before["TextDataModule"]["tokenizer"]
    assert after["global_step"] == 6
    moved = [n for n, w in after["state_dict"].items() if (w != before["state_dict"][n]).any()]
    assert len(moved) > 3


def test_what_it_leaves_behind(finished: tuple[Path, str]) -> None:
    run, output = finished
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["tasks"]) == {"arithmetic", "identity"}
    assert all(0 <= share <= 1 for share in summary["tasks"].values())
    assert summary["complete"]
    assert "arithmetic" in output.split("Done in")[1]
    assert "arithmetic 67%, identity 33%" in output
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["stage"] == "chat"
    assert config["name"] == "run"  # the same settings again are the same run again
    assert metrics(run, "tasks/arithmetic")
    assert [step for step, _ in metrics(run, "val/bpb")] == [2, 5]


def test_it_goes_on_exactly(pretrained: Path, finished: tuple[Path, str]) -> None:
    whole = metrics(finished[0], "train/loss")
    assert main(["fit", *options(pretrained, "--trainer.max_steps=3", "--model.warmdown=0")]) == 0
    part = newest(pretrained)
    assert main(["fit", *options(pretrained, "--trainer.max_steps=6", "--model.warmdown=0")]) == 0
    wanted = newest(pretrained)
    assert main(["fit", *options(pretrained, f"--ckpt_path={part}/checkpoints/last.ckpt", "--model.warmdown=0")]) == 0
    assert metrics(part, "train/loss") == metrics(wanted, "train/loss")
    assert len(whole) == len(metrics(part, "train/loss")) == 6
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (part, wanted)]
    assert all((states[0]["state_dict"][n] == w).all() for n, w in states[1]["state_dict"].items())
    assert states[0]["ChatDataModule"] == states[1]["ChatDataModule"]


def test_validate_and_last(pretrained: Path, finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", *options(pretrained, "--ckpt_path=last")]) == 0
    output = capsys.readouterr().out
    assert "val/bpb" in output
    assert "identity" in output
    assert main(["fit", *options(pretrained, "--ckpt_path=last")]) == 0
    assert "This run is finished" in capsys.readouterr().out


def test_a_smaller_batch_learns_the_same(pretrained: Path, finished: tuple[Path, str]) -> None:
    assert main(["fit", *options(pretrained, "--data.batch_size=1", "--scores.items=0")]) == 0
    run = newest(pretrained)
    assert "tasks" not in json.loads((run / "summary.json").read_text())
    wanted, found = (metrics(r, "train/loss") for r in (finished[0], run))
    assert [step for step, _ in found] == [step for step, _ in wanted]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in wanted], rel=1e-4)


def test_a_middle_stage_and_what_starts_from_it(pretrained: Path) -> None:
    assert main(["fit", *options(pretrained, "--stage=middle", "--data.tasks={identity: 1}")]) == 0
    middle = newest(pretrained, "run-middle")
    for start in ("run-middle", str(middle), str(middle / "checkpoints" / "last.ckpt")):
        assert main(["fit", *options(pretrained, f"--start_from={start}", "--trainer.max_steps=1")]) == 0
        assert yaml.safe_load((newest(pretrained) / "config.yaml").read_text())["start_from"] == start


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--name=other"], "there is no pretrained model below"),
        (["--start_from=nothing"], "--start_from=nothing: there is no such"),
        (["--model.depth=3"], "has depth 1 instead of 3"),
        (["--stage=cat"], "there is no such stage, did you mean chat?"),
        (["--data.tasks={spelin: 1}"], "did you mean spelling?"),
        (["--data.tasks={identity: -1}"], "must not be negative"),
        (["--data.tasks={nowhere.jsonl: 1}"], "there is no file nowhere.jsonl"),
        (["--data.corpus=embedded"], "there is no option --data.corpus"),
        (["--data.several_turns=2"], "a share from 0 to 1"),
        (["--ckpt_path=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
    ],
)
def test_errors_are_one_line(pretrained: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *options(pretrained, *more)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_missing_models_command_is_told(pretrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *options(pretrained, "--name=other")]) == 2
    assert f"fit --config {pretrained / 'tier.yaml'}`" in capsys.readouterr().err


def test_a_checkpoint_of_another_stage(
    pretrained: Path, finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = newest(pretrained, "run") / "checkpoints" / "last.ckpt"
    assert main(["fit", *options(pretrained, f"--ckpt_path={text}")]) == 2
    assert f"--start_from={text} fine-tunes it" in capsys.readouterr().err
    chat = finished[0] / "checkpoints" / "last.ckpt"
    assert main(["fit", "--config", str(pretrained / "tier.yaml"), f"--ckpt_path={chat}"]) == 2
    assert "--stage=chat resumes it" in capsys.readouterr().err


def test_own_conversations_with_a_bad_line(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n{"no": 1}\n'
    )
    assert main(["fit", *options(pretrained, f"--data.tasks={{{path}: 1}}")]) == 2
    assert f'{path}, line 2: it is not an object with "messages"' in capsys.readouterr().err


def test_two_processes_learn_the_same(pretrained: Path, finished: tuple[Path, str]) -> None:
    devices = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--scores.items=2")
    result = command("fit", *options(pretrained, *devices), cwd=pretrained)
    assert result.returncode == 0, result.stderr
    wanted, found = (metrics(run, "train/loss") for run in (finished[0], newest(pretrained)))
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in wanted], rel=1e-4)
    assert set(json.loads((newest(pretrained) / "summary.json").read_text())["tasks"]) == {"arithmetic", "identity"}
