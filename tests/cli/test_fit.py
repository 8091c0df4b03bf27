"""The command line end to end: what a run prints, leaves behind, repeats and resumes."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nanochat.cli import main
from nanochat.optim.learning_rates import default_learning_rates
from nanochat.tokenizer import Tokenizer
from tests.cli.tools import ROOT, command, metrics, tiny_options, train


@pytest.fixture(scope="module")
def finished(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run of the real command in a process of its own, and what it printed."""
    root = tmp_path_factory.mktemp("finished")
    result = command("fit", *tiny_options(corpus_folder, root), "--trainer.max_steps=12", cwd=root)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""  # no warnings that the user can do nothing about
    return root / "lightning_logs" / "run" / "version_0", result.stdout


def test_what_a_user_sees(finished: tuple[Path, str]) -> None:
    run, text = finished
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)  # readable in a file: no control characters
    plan, rest = text.split("\n\n", 1)
    parameters = 12 * 64**2 + 2 * 300 * 64
    for part in (
        f"{parameters:,} parameters: depth 1, width 64, 1 heads, vocabulary 300",
        "800 documents",
        "12 steps of 256 tokens",
        "FLOPs",
        "about",
        str(run),
    ):
        assert part in plan, part
    assert len(re.findall(r"^step \d+  val/bpb \d\.\d{4}  \"Return a list of", rest, re.MULTILINE)) == 2
    summary = rest.split("Done in")[1]
    for part in ("val/bpb", "tokens/s", f"{run}/checkpoints/last.ckpt", "tensorboard --logdir", "validate", "fit"):
        assert part in summary, part
    assert max(map(len, text.splitlines())) <= 200


def test_what_a_run_leaves_behind(finished: tuple[Path, str]) -> None:
    run, _ = finished
    names = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert names >= {"config.yaml", "summary.json", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"}
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["trainer"]["accelerator"], config["trainer"]["precision"]) != ("auto", None)
    assert config["model"]["depth"] == 1
    summary = json.loads((run / "summary.json").read_text())
    assert summary["tokens"] == 12 * 256
    assert summary["parameters"] == 12 * 64**2 + 2 * 300 * 64
    for key in ("val_bpb", "best_val_bpb", "seconds", "tokens_per_second", "mfu", "peak_memory_bytes"):
        assert summary[key] > 0, key
    assert Path(summary["checkpoint"]).is_file()
    assert len(summary["corpus_fingerprint"]) == 16
    assert summary["versions"]["torch"] == torch.__version__


def test_the_curves(finished: tuple[Path, str]) -> None:
    run, _ = finished
    events = EventAccumulator(str(run)).Reload()
    scalars = set(events.Tags()["scalars"])
    assert scalars >= {
        *("train/loss", "train/bpb", "train/gradient_norm", "train/tokens_per_second", "train/mfu", "val/bpb"),
        *(f"lr-MuonAdamW/{name}" for name in ("matrices", "embedding", "head")),
        *("by_tokens/train/loss", "by_tokens/val/bpb"),
    }
    assert set(events.Tags()["tensors"]) >= {"sample/text_summary", "configuration/text_summary"}
    assert [e.step for e in events.Scalars("by_tokens/val/bpb")] == [6 * 256, 12 * 256]
    plugins = events.PluginTagToContent("hparams")
    assert "_hparams_/experiment" in plugins
    assert "epoch" not in scalars
    steps, losses = zip(*metrics(run, "train/loss"), strict=True)
    assert steps == tuple(range(12))
    assert losses[-1] < losses[0]
    assert [step for step, _ in metrics(run, "val/bpb")] == [5, 11]
    rates = dict(metrics(run, "lr-MuonAdamW/matrices"))
    assert rates[0] == max(rates.values()) > rates[11]


def test_checkpoint_is_self_contained(finished: tuple[Path, str]) -> None:
    run, _ = finished
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["depth"] == 1
    tokenizer = Tokenizer.from_dict(checkpoint["TextDataModule"]["tokenizer"])
    assert tokenizer.vocab_size == 300
    assert checkpoint["TextDataModule"]["place"] == 12 * 4 * 65  # twelve steps of four rows of 64 + 1 tokens
    assert (
        checkpoint["TextDataModule"]["corpus"] == json.loads((run / "summary.json").read_text())["corpus_fingerprint"]
    )


def losses(run: Path) -> list[tuple[int, float]]:
    return metrics(run, "train/loss")


def test_seed_determines_losses_for_any_workers(corpus_folder: Path, tmp_path: Path) -> None:
    options = tiny_options(corpus_folder, tmp_path)
    runs = [train(options, tmp_path, f"--data.num_workers={n}") for n in (0, 0, 2)]
    assert losses(runs[0]) == losses(runs[1]) == losses(runs[2])
    assert metrics(runs[0], "val/bpb") == metrics(runs[2], "val/bpb")
    other = train(options, tmp_path, "--seed_everything=7")
    assert losses(other) != losses(runs[0])


def test_accumulation_changes_the_memory_and_not_the_losses(corpus_folder: Path, tmp_path: Path) -> None:
    options = tiny_options(corpus_folder, tmp_path)
    runs = [train(options, tmp_path, f"--data.batch_size={rows}") for rows in (4, 2, 1)]
    for other in runs[1:]:
        for (step, loss), (also, close) in zip(losses(runs[0]), losses(other), strict=True):
            assert step == also
            assert loss == pytest.approx(close, abs=1e-4)


def test_micro_steps_shrink_to_fit_memory(
    corpus_folder: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    options = [*tiny_options(corpus_folder, tmp_path), "--data.batch_size=4", "--trainer.val_check_interval=2"]
    whole = train([*options, "--data.batch_size=2", "--trainer.val_check_interval=4"], tmp_path, "--model.warmdown=0")
    room_for_two = lambda trainer, module: (1e9 * trainer.datamodule.batch_size, 2e9)  # noqa: E731
    monkeypatch.setattr("nanochat.training.budget.memory_check._needed_and_available", room_for_two)
    capsys.readouterr()
    parts = train(options, tmp_path, "--model.warmdown=0")
    assert (
        "4 rows per micro-step need about 4.0 GB of memory, and 2.0 GB are available: using 2 rows, "
        "2 times as many micro-steps (the result is the same)." in capsys.readouterr().out
    )
    assert losses(parts) == losses(whole)
    assert metrics(parts, "val/bpb") == metrics(whole, "val/bpb")
    assert len(metrics(parts, "val/bpb")) > 1
    onward = train(options, tmp_path, "--ckpt_path=last", "--trainer.max_steps=6")
    assert [step for step, _ in losses(onward)] == list(range(6))


def test_a_run_goes_on_where_its_checkpoint_stands(corpus_folder: Path, tmp_path: Path) -> None:
    def run(root: Path, *options: str) -> Path:
        return train(tiny_options(corpus_folder, root), root, "--model.warmdown=0", *options)

    straight = run(tmp_path / "straight", "--trainer.max_steps=8")
    half = run(tmp_path / "halves", "--trainer.max_steps=4")
    assert len(losses(half)) == 4
    resumed = run(tmp_path / "halves", "--trainer.max_steps=8", "--ckpt_path=last")
    assert resumed == half  # it goes on in its own folder
    assert losses(resumed) == losses(straight)


def test_a_finished_run_goes_on_only_with_more_steps(corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    options = tiny_options(corpus_folder, tmp_path)
    run = train(options, tmp_path)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    capsys.readouterr()
    assert main(["fit", *options, "--ckpt_path=last"]) == 0  # as a cluster may start a finished job once more
    assert (
        "This run is finished: 4 steps are done, and --trainer.max_steps=4 asks for no more." in capsys.readouterr().out
    )
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    train(options, tmp_path, "--ckpt_path=last", "--trainer.max_steps=10")
    said = capsys.readouterr().out
    assert "planned for 4 steps and is now planned for 10 steps" in said
    assert "100% of their full values now (0% in the old plan), and fall over the last 40% of the run" in said
    rates = [rate for _, rate in metrics(run, "lr-MuonAdamW/matrices")]
    assert rates[4:] == pytest.approx([rates[0] * f for f in (1, 1, 1, 0.75, 0.5, 0.25)])


def test_resume_after_kill_before_final_score(corpus_folder: Path, tmp_path: Path) -> None:
    options = [*tiny_options(corpus_folder, tmp_path), "--data.validations=4"]
    run = train(options, tmp_path)
    known = {name: metrics(run, name) for name in ("train/loss", "val/bpb", "val/bpb_all")}
    assert [step for step, _ in known["val/bpb_all"]] == [3]
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").unlink()
    lines = (run / "metrics.csv").read_text().splitlines()
    assert lines[0].endswith(",val/bpb_all")
    (run / "metrics.csv").write_text("\n".join([*lines[:-1], lines[-1].rpartition(",")[0] + ",", ""]))
    assert not metrics(run, "val/bpb_all")
    train(options, tmp_path, "--ckpt_path=last")
    assert {name: metrics(run, name) for name in known} == known
    assert json.loads((run / "summary.json").read_text())["val_bpb"] == summary["val_bpb"]


def test_a_run_takes_the_time_that_it_is_given(corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    options = [*tiny_options(corpus_folder, tmp_path), "--trainer.max_steps=-1", "--plan.minutes=0.4"]
    result = command("fit", *options, "--data.validate_all=false")
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "lightning_logs" / "run").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert 12 < summary["seconds"] < 240  # 24, unless the machine has other work to do at one time and not at the other
    steps = summary["steps"]
    assert steps > 10
    assert "as many as fit into 0.4 minutes here" in result.stdout
    rates = [rate for _, rate in metrics(run, "lr-MuonAdamW/embedding")]
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    full = state["optimizer_states"][0]["param_groups"][0]["initial_lr"]
    assert full == pytest.approx(default_learning_rates(64, 256, steps).embedding, rel=0.1)  # the rule
    assert rates[-1] == pytest.approx(full / (0.4 * steps), rel=0.01)  # and so is the schedule
    assert main(["fit", *options, "--ckpt_path=last"]) == 0  # no new plan: that of the run
    assert f"This run is finished: {steps:,} steps are done" in capsys.readouterr().out


def test_what_is_not_as_before_is_said(corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    options = tiny_options(corpus_folder, tmp_path)
    train(options, tmp_path, "--trainer.max_steps=3")
    capsys.readouterr()
    more = ["--ckpt_path=last", "--trainer.max_steps=5", "--model.head_lr=0.5"]
    run = train(options, tmp_path, *more, "--trainer.precision=bf16-mixed", "--data.batch_size=1")
    said = capsys.readouterr().out
    for words in (
        "precision bf16-mixed instead of 32-true",
        "micro-steps per step 4 instead of 2",
        "rows per micro-step 1 instead of 2",
        "The learning rate of head was",
        "and is now 0.5.",
    ):
        assert words in said, said
    assert metrics(run, "lr-MuonAdamW/head")[3] == (3, 0.5)
    capsys.readouterr()
    train(options, tmp_path, "--ckpt_path=last", "--trainer.max_steps=6", "--trainer.precision=bf16-mixed")
    assert "Resuming with micro-steps" in capsys.readouterr().out


def test_validate_scores_all_of_the_held_out_text(finished: tuple[Path, str], corpus_folder: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    run, _ = finished
    options = tiny_options(corpus_folder, run.parents[2])
    assert main(["validate", *options, "--ckpt_path=last"]) == 0
    said = capsys.readouterr().out
    final = json.loads((run / "summary.json").read_text())["val_bpb"]
    assert f"val/bpb {final:.4f} on" in said
    assert not (run.parent / "version_1").exists()  # scoring leaves no run behind


def test_proposed_validate_command(  # type: ignore[no-untyped-def]
    finished: tuple[Path, str], capsys
) -> None:
    run, said = finished
    proposed = re.search(r" (validate .*)", said)
    assert proposed is not None, said
    assert main(shlex.split(proposed[1])) == 0
    final = json.loads((run / "summary.json").read_text())["val_bpb"]
    assert f"val/bpb {final:.4f} on" in capsys.readouterr().out


def test_validate_uses_the_checkpoints_tokenizer(  # type: ignore[no-untyped-def]
    finished: tuple[Path, str], corpus_folder: Path, tmp_path: Path, capsys
) -> None:
    run, _ = finished
    (tmp_path / "other.txt").write_text("entirely different words are found in this short text " * 30)
    options = tiny_options(corpus_folder, run.parents[2])
    assert main(["validate", *options, "--ckpt_path=best", f"--data.val_corpus={tmp_path / 'other.txt'}"]) == 0
    score = float(re.search(r"val/bpb (\S+) on", capsys.readouterr().out)[1])  # type: ignore[index]
    final = json.loads((run / "summary.json").read_text())["val_bpb"]
    assert score > final


def test_the_tiers_own_options_as_the_readme_writes_them(corpus_folder: Path, tmp_path: Path) -> None:
    run = train(
        [
            f"--config={ROOT / 'configs' / 'tiny.yaml'}",
            *(f"--data.corpus={corpus_folder}", f"--trainer.default_root_dir={tmp_path}", "--name=run"),
            *("--model.depth=2", "--model.width=128", "--data.vocab_size=400", "--data.batch_size=2"),
            *("--model.matrix_lr=0.01", "--trainer.max_steps=2", "--data.val_tokens=100"),
        ],
        tmp_path,
    )
    config = yaml.safe_load((run / "config.yaml").read_text())
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    said_once = checkpoint["hyper_parameters"]
    assert (said_once["vocab_size"], said_once["context"]) == (400, 512)
    groups = {g["name"]: g["initial_lr"] for g in checkpoint["optimizer_states"][0]["param_groups"]}
    assert groups["matrices"] == 0.01  # as it is
    assert config["data"]["tokens_per_step"] // (2 * config["data"]["row_length"]) == 8  # micro-steps of two rows


def test_ctrl_c_before_the_first_step_is_no_error(corpus_folder: Path, tmp_path: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nanochat.data.text_data.prepare", interrupted)
    assert main(["fit", *tiny_options(corpus_folder, tmp_path)]) == 130
    assert capsys.readouterr().err == "\nStopped.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_saves_and_says_how_to_go_on(corpus_folder: Path, tmp_path: Path) -> None:
    options = [*tiny_options(corpus_folder, tmp_path), "--trainer.max_steps=100000", "--data.validations=1"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), "fit", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    run = tmp_path / "lightning_logs" / "run" / "version_0"
    deadline = time.monotonic() + 300
    while not (run / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 130
    assert "Stopping after this step" in out
    assert "Traceback" not in err
    assert "To go on:" in err
    assert f"--trainer.default_root_dir={tmp_path}" in err
    assert "--ckpt_path=last" in err
    step = int(re.search(r"Stopped after step ([\d,]+)", err)[1].replace(",", ""))  # type: ignore[index]
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == step > 0
    train(options, tmp_path, "--ckpt_path=last", f"--trainer.max_steps={step + 2}")
    assert [s for s, _ in losses(run)] == list(range(step + 2))


@pytest.mark.parametrize(
    "option",
    [
        "--trainer.fast_dev_run=true",
        "--trainer.logger=false",
        "--trainer.max_time=00:01:00:00",
        "--trainer.limit_val_batches=0",
        "--trainer.val_check_interval=2",
        "--trainer.enable_checkpointing=false",
        "--trainer.enable_progress_bar=false",
        "--trainer.gradient_clip_val=1.0",
        "--trainer.precision=bf16-mixed",
    ],
)
def test_lightnings_own_options_do_what_they_do(option: str, corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["fit", *tiny_options(corpus_folder, tmp_path), option]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "Done in" in printed.out
    assert bool(list(tmp_path.rglob("last.ckpt"))) == (option not in NO_CHECKPOINT)
    assert bool(list(tmp_path.rglob("summary.json"))) == (option not in NO_FOLDER)


NO_CHECKPOINT = {"--trainer.fast_dev_run=true", "--trainer.enable_checkpointing=false"}
NO_FOLDER = {"--trainer.fast_dev_run=true"}
