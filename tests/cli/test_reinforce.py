"""Reinforcement learning end to end: where it starts from, what it leaves behind, and that it goes on exactly."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import yaml

from nanochat.cli import main
from nanochat.serving.find_model import find_model, is_chat
from tests.cli.tools import command, metrics, tiny_options, train
from tests.cli.tools import newest as newest_run

WORDS = ("one", "two", "three")
REINFORCE = {
    "stage": "reinforce",
    "data": {
        "tasks": {"gsm8k": 1},
        "questions_per_step": 4,
        "samples": 6,
        "max_tokens": 16,
        "batch_size": 12,
        "val_questions": 3,
        "val_tokens": 100,
        "validations": 2,
    },
    "scores": {"items": 3},
    "samples": {"max_tokens": 8},
}


# Sums in another order are rounded in another way. Where weights hardly move, they differ by so little of it that no
# other token is drawn; whether they would move in the same way is seen by the norm of the gradient.
SLOWLY = [f"--model.{name}_lr=1e-4" for name in ("matrix", "embedding", "head")]


def write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def questions(count: int) -> str:
    """In GSM8K's form, but easier."""
    return "\n".join(json.dumps({"question": WORDS[n % 3], "answer": f"#### {n % 3 + 1}"}) for n in range(count))


@pytest.fixture(scope="module")
def chatting(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a chat model that names one of three numbers, right or wrong, and the files."""
    root = tmp_path_factory.mktemp("chatting")
    train(tiny_options(corpus_folder, root), root)
    folder = root / "data" / "gsm8k"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text(questions(30))
    (folder / "test.jsonl").write_text(questions(3))
    rng = random.Random(0)
    said = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
    lines = []
    for n in range(300):
        said[0]["content"], said[1]["content"] = WORDS[n % 3], f"\nIt is {rng.randint(1, 3)}."
        lines.append(json.dumps({"messages": said}))
    (root / "mine.jsonl").write_text("\n".join(lines))
    tier = {
        "name": "run",
        "model": {"depth": 2, "muon_every": 1},
        "data": {"corpus": str(corpus_folder), "vocab_size": 512, "row_length": 60, "validations": 2},
        "trainer": {"default_root_dir": str(root), "precision": "32-true", "max_steps": 6, "log_every_n_steps": 1},
    }
    write(root / "tier.yaml", tier)
    REINFORCE["data"]["folder"] = str(root / "data")  # type: ignore[index]
    write(root / "reinforce.yaml", REINFORCE)
    chat = ["--stage=chat", f"--data.tasks={{{root}/mine.jsonl: 1}}", "--data.tokens_per_step=240", "--scores.items=0"]
    assert main(["fit", f"--config={root}/tier.yaml", *chat, "--trainer.max_steps=60"]) == 0
    return root


def options(root: Path, *more: str) -> list[str]:
    return ["--config", str(root / "tier.yaml"), "--config", str(root / "reinforce.yaml"), *more]


def newest(root: Path, name: str = "run-reinforce") -> Path:
    return newest_run(root, name)


@pytest.fixture(scope="module")
def finished(chatting: Path) -> tuple[Path, str]:
    result = command("fit", *options(chatting), cwd=chatting)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return newest(chatting), result.stdout


def test_reinforce_trains_the_chat_model(chatting: Path, finished: tuple[Path, str]) -> None:
    run, output = finished
    start = newest(chatting, "run-chat") / "checkpoints" / "last.ckpt"
    assert f"Starting from the weights in {start}" in output
    before, after = (torch.load(p, weights_only=True) for p in (start, run / "checkpoints" / "last.ckpt"))
    assert after["hyper_parameters"]["depth"] == before["hyper_parameters"]["depth"] == 1  # not the tier's
    assert after["QuestionsDataModule"]["tokenizer"] == before["ChatDataModule"]["tokenizer"]
    assert all((after["state_dict"][n] != w).any() for n, w in before["state_dict"].items())
    rewards = [value for _, value in metrics(run, "train/reward")]
    assert len(rewards) == 6
    assert max(rewards) > 0  # there is something to learn from
    assert all(0 < value <= 16 for _, value in metrics(run, "train/answer_tokens"))


def test_what_it_leaves_behind(finished: tuple[Path, str]) -> None:
    run, output = finished
    for name in ("loss", "gradient_norm", "entropy", "no_signal", *(f"pass_at_{k}" for k in (1, 2, 4, 6))):
        assert len(metrics(run, f"train/{name}")) == 6, name
    assert [v for _, v in metrics(run, "train/pass_at_1")] == [v for _, v in metrics(run, "train/reward")]
    assert [step for step, _ in metrics(run, "val/accuracy")] == [0, 2, 5]  # 0 is where it began
    assert len(metrics(run, "val/bpb")) == 2
    summary = json.loads((run / "summary.json").read_text())
    assert summary["complete"]
    assert summary["flops_per_token"] is summary["mfu"] is None  # its tokens do not say how much work they were
    assert set(summary["tasks"]) == {"gsm8k"}
    assert summary["tokens"] == metrics(run, "tokens")[-1][1]
    assert 6 * 24 < summary["tokens"] <= 6 * 24 * 16
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["stage"], config["name"]) == ("reinforce", "run")
    assert config["start_from"].endswith("last.ckpt")
    assert "of 3 questions answered correctly before training" in output
    assert "6 steps of 4 questions, 6 answers to each: 144 answers" in output
    assert "gsm8k" in output.split("Done in")[1]


def test_it_is_the_assistant_now(chatting: Path, finished: tuple[Path, str]) -> None:
    last = finished[0] / "checkpoints" / "last.ckpt"
    assert is_chat(last)
    for name in (None, "run", "run-reinforce"):
        assert find_model(name, chatting) == newest(chatting) / "checkpoints" / "last.ckpt"


def test_it_goes_on_exactly(chatting: Path, finished: tuple[Path, str]) -> None:
    assert main(["fit", *options(chatting, "--trainer.max_steps=3", "--model.warmdown=0", "--scores.items=0")]) == 0
    part = newest(chatting)
    assert main(["fit", *options(chatting, "--model.warmdown=0", "--scores.items=0")]) == 0
    wanted = newest(chatting)
    on = f"--ckpt_path={part}/checkpoints/last.ckpt"
    assert main(["fit", *options(chatting, on, "--trainer.max_steps=6", "--model.warmdown=0", "--scores.items=0")]) == 0
    for name in ("loss", "reward", "answer_tokens", "gradient_norm"):
        assert metrics(part, f"train/{name}") == metrics(wanted, f"train/{name}")
    assert len(metrics(part, "train/loss")) == 6
    assert any(loss for _, loss in metrics(part, "train/loss")[3:])  # and they learned from something
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (part, wanted)]
    assert all((states[0]["state_dict"][n] == w).all() for n, w in states[1]["state_dict"].items())
    assert states[0]["QuestionsDataModule"] == states[1]["QuestionsDataModule"]


def test_averages_between_two_lines_of_the_log_survive(chatting: Path) -> None:
    slowly = ("--trainer.log_every_n_steps=4", "--scores.items=0", "--model.warmdown=0")
    assert main(["fit", *options(chatting, *slowly, "--trainer.max_steps=4")]) == 0
    wanted = metrics(newest(chatting), "train/reward")
    assert main(["fit", *options(chatting, *slowly, "--trainer.max_steps=2")]) == 0
    on = f"--ckpt_path={newest(chatting)}/checkpoints/last.ckpt"
    assert main(["fit", *options(chatting, *slowly, "--trainer.max_steps=4", on)]) == 0
    assert metrics(newest(chatting), "train/reward") == wanted
    assert len(wanted) == 1


def test_a_smaller_batch_learns_the_same(chatting: Path, finished: tuple[Path, str]) -> None:
    more = (*SLOWLY, "--trainer.max_steps=3", "--scores.items=0")
    assert main(["fit", *options(chatting, *more, "--data.batch_size=6")]) == 0
    small = newest(chatting)
    assert main(["fit", *options(chatting, *more)]) == 0
    for name in ("train/reward", "train/loss", "train/gradient_norm"):
        wanted, found = (metrics(run, name) for run in (newest(chatting), small))
        assert [value for _, value in found] == pytest.approx([value for _, value in wanted], rel=1e-3, abs=1e-6)


def test_validate_and_last(chatting: Path, finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", *options(chatting, f"--ckpt_path={finished[0]}/checkpoints/last.ckpt")]) == 0
    output = capsys.readouterr().out
    assert "val/bpb" in output
    assert "gsm8k" in output


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--name=other"], "there is no chat model below"),
        (["--start_from=run"], "which was trained on text only"),
        (["--start_from=nothing"], "--start_from=nothing: there is no such"),
        (["--data.tasks={smoltalk: 1}"], "answers to smoltalk cannot be checked"),
        (["--data.tasks={my/own.jsonl: 1}"], "answers to my/own.jsonl cannot be checked"),
        (["--data.tasks={arithmetik: 1}"], "did you mean arithmetic?"),
        (["--data.folder=nowhere"], "--data.folder=nowhere: there is no such folder"),
        (["--data.samples=1"], "--data.samples must be at least 2, not 1"),
        (["--data.row_length=60"], "there is no option --data.row_length"),
        (["--model.compile=true"], "leave it out"),
        (["--trainer.accelerator=cpu", "--trainer.devices=3"], "cannot be dealt out evenly to 3 devices"),
    ],
)
def test_errors_are_one_line(chatting: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *options(chatting, *more)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_checkpoint_of_another_stage(
    chatting: Path, finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    chat = newest(chatting, "run-chat") / "checkpoints" / "last.ckpt"
    assert main(["fit", *options(chatting, f"--ckpt_path={chat}")]) == 2
    assert f"--start_from={chat} reinforces it" in capsys.readouterr().err
    mine = finished[0] / "checkpoints" / "last.ckpt"
    for stage in ("pretrain", "chat"):
        assert main(["fit", f"--config={chatting}/tier.yaml", f"--stage={stage}", f"--ckpt_path={mine}"]) == 2
        assert "--stage=reinforce resumes it" in capsys.readouterr().err


def test_two_processes_learn_the_same(chatting: Path) -> None:
    assert main(["fit", *options(chatting, *SLOWLY, "--scores.items=0")]) == 0
    alone = newest(chatting)
    devices = ("--trainer.accelerator=cpu", "--trainer.devices=2")
    result = command("fit", *options(chatting, *SLOWLY, *devices), cwd=chatting)
    assert result.returncode == 0, result.stderr
    for name in ("train/reward", "train/loss", "train/gradient_norm", "train/no_signal", "val/accuracy"):
        wanted, found = (metrics(run, name) for run in (alone, newest(chatting)))
        assert wanted, name
        assert [value for _, value in found] == pytest.approx([value for _, value in wanted], rel=1e-3, abs=1e-6)
