"""A SLURM cluster, as far as one machine can play it: its variables, two "nodes" on loopback, its signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from nanochat.cli import main
from nanochat.training.language_model import LanguageModel
from tests.cli import fake_slurm
from tests.cli.tools import ROOT, metrics, tiny_options, train

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals; SLURM is not for Windows")
SCRIPT = "configs/cluster/slurm.sh"
ENDLESS = "--trainer.max_steps=100000"


def options(corpus: Path, root: Path) -> list[str]:
    return [
        *(*tiny_options(corpus, root), "--trainer.accelerator=cpu", "--model.warmdown=0", "--data.validations=1"),
        *("--model.matrix_lr=0.03", "--model.embedding_lr=0.3", "--model.head_lr=0.01"),  # whatever the number of steps
        # where the script's own configuration has another number
        *("--data.row_length=64", "--data.num_workers=1", "--model.muon_band=32"),
    ]


# ------------------------------------------------------------------------------- two nodes, and the script itself


class Job(NamedTuple):
    """A job that was requeued on the way."""

    root: Path
    environment: dict[str, str]
    status: int
    printed: str


def sbatch(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Starts the script as SLURM does: in the folder that it was handed in from, with its output in one file."""
    return subprocess.Popen(
        ["bash", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def tasks(commands: Path) -> list[int]:
    """Their process numbers."""
    return [int(word) for word in (commands / "pids").read_text().split()]


def wait_for(pattern: str, root: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not list(root.rglob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.fixture(scope="module")
def requeued(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Two nodes of one task each, an empty cache between them, and the requeue signal for the second task alone."""
    root = tmp_path_factory.mktemp("slurm")
    commands = fake_slurm.install(root / "bin")
    number = fake_slurm.free_number()
    environment = fake_slurm.job(commands, nodes=2, tasks=1, number=number, NANOCHAT_CACHE=str(root / "cache"))
    process = sbatch(environment, *options(corpus_folder, root), ENDLESS)
    wait_for("metrics.csv", root, process)
    os.kill(tasks(commands)[1], signal.SIGUSR1)
    printed, _ = process.communicate(timeout=400)
    return Job(root, environment, process.returncode, printed)


def test_warning_to_any_task_requeues_once(requeued: Job) -> None:
    assert requeued.status == 0, requeued.printed
    number = requeued.environment["SLURM_JOB_ID"]
    assert (requeued.root / "bin" / "asked").read_text() == f"requeue {number}\n"
    assert requeued.printed.count(f"Job {number} is in the queue again.") == 1
    step = int(re.search(r"Stopped after step ([\d,]+); all is saved", requeued.printed)[1].replace(",", ""))  # type: ignore[index]
    run = requeued.root / "lightning_logs" / "run" / "version_0"
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == step > 0
    for nothing in ("hpc_ckpt*", ".*"):  # no checkpoint of Lightning's own making, nothing half done in the cache
        assert not list(requeued.root.rglob(nothing))
    for nothing in ("Traceback", "Warning", "To go on"):
        assert nothing not in requeued.printed


@pytest.mark.slow
def test_requeued_job_on_two_nodes_equals_one_process(requeued: Job, corpus_folder: Path, tmp_path: Path) -> None:
    run = requeued.root / "lightning_logs" / "run" / "version_0"
    steps = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] + 2
    process = sbatch(requeued.environment, *options(corpus_folder, requeued.root), f"--trainer.max_steps={steps}")
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    assert f"Resuming from {run / 'checkpoints' / 'last.ckpt'}, step {steps - 2:,}." in printed
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    alone = train(options(corpus_folder, tmp_path), tmp_path, f"--trainer.max_steps={steps}", "--data.num_workers=0")
    together, by_one = dict(metrics(run, "train/loss")), dict(metrics(alone, "train/loss"))
    assert list(together) == list(by_one) == list(range(steps))
    assert [together[s] for s in range(12) if s in together] == pytest.approx(
        [by_one[s] for s in range(12) if s in by_one], rel=1e-4
    )
    some = range(min(steps, 60))  # rounding adds up: after many steps, which a slow signal leaves time for, to anything
    assert [together[s] for s in some] == pytest.approx([by_one[s] for s in some], rel=0.02)
    saved = [torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (run, alone)]
    places = [checkpoint["TextDataModule"]["place"] for checkpoint in saved]
    assert places[0] == places[1]  # no row twice, and none left out


def test_what_sbatch_reads_comes_before_the_first_command() -> None:
    """It would be passed over in silence otherwise."""
    subprocess.run(["bash", "-n", SCRIPT], check=True, cwd=ROOT)
    lines = (ROOT / SCRIPT).read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [number for number, line in enumerate(lines) if line.startswith(("#SBATCH", "##SBATCH"))]
    assert max(asked) < first
    values = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    assert values["gpus-per-node"] == values["ntasks-per-node"]
    assert values["signal"].startswith("SIGUSR1@")
    assert {"requeue", "open-mode"} <= values.keys()


def test_the_script_says_where_it_must_be_called(tmp_path: Path) -> None:
    script = str(ROOT / SCRIPT)
    result = subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "call sbatch from the project's folder" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("different", ["lightning_logs", "text"])
def test_nodes_without_shared_folder(different: str, corpus_folder: Path, tmp_path: Path) -> None:
    """The first node has a checkpoint that the second does not see; or the second has other text."""
    (tmp_path / "0").mkdir()
    train([*options(corpus_folder, tmp_path / "0"), "--data.num_workers=0"], tmp_path / "0", "--trainer.max_steps=2")
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(f"{n}: other words, and enough of them to fill a row of tokens" for n in range(500)))
    commands = fake_slurm.install(tmp_path / "bin")
    environment = fake_slurm.job(commands, nodes=2, tasks=1, number=fake_slurm.free_number())
    nodes = []
    for node in range(2):
        root = tmp_path / (str(node) if different == "lightning_logs" else "0")
        corpus = other if node and different == "text" else corpus_folder
        more = ["--trainer.num_nodes=2", "--trainer.devices=1", "--ckpt_path=auto", "--data.num_workers=0"]
        who = {"SLURM_PROCID": str(node), "SLURM_LOCALID": "0", "SLURM_NODEID": str(node)}
        arguments = [sys.executable, "cli.py", "fit", *options(corpus, root), *more]
        nodes.append(
            subprocess.Popen(arguments, cwd=ROOT, env={**environment, **who}, stderr=subprocess.PIPE, text=True)
        )
    said = [process.communicate(timeout=400)[1] for process in nodes]
    assert [process.returncode for process in nodes] == [2, 2]
    what = {"lightning_logs": "the same lightning_logs", "text": "different text"}[different]
    assert all(what in text and "Traceback" not in text for text in said), said


# -------------------------------------------------------------------------------- one task, signals at odd moments


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process is the only task of a job; returns the file with what ``scontrol`` was asked."""
    commands = fake_slurm.install(tmp_path / "bin")
    for name, value in fake_slurm.job(commands, nodes=1, tasks=1).items():
        monkeypatch.setenv(name, value)
    for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    return commands / "asked"


def fit(corpus: Path, root: Path, *more: str) -> int:
    """Trains four steps in this process, on one device."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    status = main(["fit", *options(corpus, root), "--data.num_workers=0", "--ckpt_path=auto", *more])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not list(root.rglob("hpc_ckpt*"))
    return status


def strike(patch: pytest.MonkeyPatch, method: str, when: Callable[[LanguageModel], bool], *numbers: int) -> None:
    """Sends signals to this process whenever a method of the module is called at that moment."""
    original = getattr(LanguageModel, method)

    def struck(module: LanguageModel, *arguments: Any) -> Any:
        if when(module):
            for number in numbers or (signal.SIGUSR1,):
                os.kill(os.getpid(), number)
        return original(module, *arguments)

    patch.setattr(LanguageModel, method, struck)


def steps_saved(root: Path) -> int:
    (path,) = root.rglob("last.ckpt")
    return int(torch.load(path, weights_only=True)["global_step"])


def test_a_warning_and_the_end_right_after_it_queue_the_job(  # type: ignore[no-untyped-def]
    slurm: Path, corpus_folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.MonkeyPatch.context() as patch:
        strike(patch, "training_step", lambda m: m.global_step == 1, signal.SIGUSR1, signal.SIGTERM)
        assert fit(corpus_folder, tmp_path) == 0
    assert slurm.read_text() == "requeue 77_3\n"
    assert steps_saved(tmp_path) == 2
    assert fit(corpus_folder, tmp_path) == 0  # auto goes on
    assert "step 2." in capsys.readouterr().out
    (run,) = (tmp_path / "lightning_logs" / "run").iterdir()
    straight = train([*options(corpus_folder, tmp_path / "straight"), "--data.num_workers=0"], tmp_path / "straight")
    for curve in ("train/loss", "val/bpb"):
        assert metrics(run, curve) == metrics(straight, curve)


def test_warning_before_first_step(  # type: ignore[no-untyped-def]
    slurm: Path, corpus_folder: Path, tmp_path: Path, capsys
) -> None:
    """The time would be too short again, and again."""
    with pytest.MonkeyPatch.context() as patch:
        strike(patch, "configure_optimizers", lambda m: True)
        assert fit(corpus_folder, tmp_path) == 128 + signal.SIGUSR1
    assert not slurm.exists()
    assert not list(tmp_path.rglob("*.ckpt"))
    assert "Stopped before the first step" in capsys.readouterr().err


def test_warning_during_final_score(  # type: ignore[no-untyped-def]
    slurm: Path, corpus_folder: Path, tmp_path: Path, capsys
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        strike(patch, "validation_step", lambda m: m.trainer.state.fn == "validate")
        assert fit(corpus_folder, tmp_path) == 0
    assert slurm.read_text() == "requeue 4001\n"
    assert steps_saved(tmp_path) == 4
    assert "Done in" not in capsys.readouterr().out
    assert fit(corpus_folder, tmp_path) == 0
    assert "Done in" in capsys.readouterr().out
    assert slurm.read_text() == "requeue 4001\n"


def test_warning_in_last_step(slurm: Path, corpus_folder: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        strike(patch, "training_step", lambda m: m.global_step == 3)
        assert fit(corpus_folder, tmp_path) == 0
    assert slurm.read_text() == "requeue 4001\n"
    assert steps_saved(tmp_path) == 4


def test_a_job_that_slurm_does_not_take_back_is_no_success(slurm: Path, corpus_folder: Path, tmp_path: Path) -> None:
    (slurm.parent / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    with pytest.MonkeyPatch.context() as patch:
        strike(patch, "training_step", lambda m: m.global_step == 1)
        assert fit(corpus_folder, tmp_path) == 128 + signal.SIGUSR1
    assert steps_saved(tmp_path) == 2


@pytest.mark.parametrize(
    ("variables", "more", "message"),
    [
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": None}, [], "ask for --nodes and --ntasks-per-node"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, ["--trainer.strategy=ddp"], "--ntasks-per-node=2"),
        ({"SLURM_NTASKS": "2", "SLURM_NNODES": "2"}, ["--trainer.strategy=ddp"], "num_nodes=2"),
        (
            {"SLURM_NTASKS": "2", "SLURM_NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "taken"},
            ["--trainer.num_nodes=2"],
            "set MASTER_PORT to a free one",
        ),
    ],
)
def test_what_is_wrong_with_a_job_is_said_in_one_line(  # type: ignore[no-untyped-def]
    variables: dict[str, str | None], more: list[str], message: str, slurm, corpus_folder, tmp_path, monkeypatch, capsys
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name, value in variables.items():
            if value is None:
                monkeypatch.delenv(name)
            else:
                monkeypatch.setenv(name, str(taken.getsockname()[1]) if value == "taken" else value)
        assert fit(corpus_folder, tmp_path, "--trainer.devices=1", *more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_auto_is_not_for_scoring(corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["validate", *tiny_options(corpus_folder, tmp_path), "--ckpt_path=auto"]) == 2
    assert "--ckpt_path=last" in capsys.readouterr().err
