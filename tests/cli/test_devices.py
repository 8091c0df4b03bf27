"""Several devices: real processes on this machine, against one process that does it all."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from nanochat.cli import main
from nanochat.data.tokens.batches import HeldOutBatches
from nanochat.data.tokens.held_out_rows import HeldOutRows
from nanochat.data.tokens.prepare import CorpusOptions, prepare
from nanochat.training.metrics import BitsPerByte
from tests.cli.tools import ROOT, command, metrics, tiny_options, train

STEPS, HALF = 5, 3  # an odd number, so that micro-steps of another size cannot come out right by chance
ALONE = ["--trainer.devices=1"]
DDP = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
FSDP = ["--trainer.devices=2", "--trainer.strategy=fsdp2", "--trainer.accelerator=cpu"]
CURVES = ("train/loss", "train/bpb", "train/gradient_norm", "val/bpb", "val/bpb_all")


def options(corpus: Path, root: Path, steps: int) -> list[str]:
    return [
        *(*tiny_options(corpus, root), "--model.warmdown=0", f"--trainer.max_steps={steps}", "--data.validations=1"),
        *("--trainer.accelerator=cpu", "--model.depth=2", "--model.kv_heads=1"),
    ]


def fit(corpus: Path, root: Path, steps: int, *more: str) -> tuple[Path, str]:
    """Trains by the real command; returns the run's folder and what it printed."""
    result = command("fit", *options(corpus, root, steps), *more, cwd=root.parent)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return root / "lightning_logs" / "run" / "version_0", result.stdout


def same_curves(one: Path, other: Path, first: int = 0) -> None:
    """Whether the curves are the same to float tolerance, from a step on."""
    for name in CURVES:
        a, b = ([point for point in metrics(run, name) if point[0] >= first] for run in (one, other))
        assert len(a) >= 1, name
        assert [step for step, _ in a] == [step for step, _ in b], name
        assert [value for _, value in a] == pytest.approx([value for _, value in b], rel=1e-4), name


@pytest.fixture(scope="module")
def straight(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, two micro-steps of two rows each."""
    root = tmp_path_factory.mktemp("straight")
    return train(options(corpus_folder, root, STEPS), root)


@pytest.fixture(scope="module")
def half(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped on the way."""
    root = tmp_path_factory.mktemp("half")
    return train(options(corpus_folder, root, HALF), root)


@pytest.fixture(scope="module")
def pair(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two processes, two micro-steps of one row each, up to ``half``."""
    return fit(corpus_folder, tmp_path_factory.mktemp("pair"), HALF, *DDP, "--data.batch_size=1")


def test_two_processes_with_half_the_rows_see_what_one_sees(pair: tuple[Path, str], half: Path) -> None:
    """There is one batch of held-out text, so that the second process gets nothing but a masked one."""
    same_curves(pair[0], half)
    assert len(metrics(half, "train/loss")) == HALF


def test_one_process_prints_and_writes(pair: tuple[Path, str]) -> None:
    run, printed = pair
    for line in ("Plan", "Done in", r"step \d+  val/bpb", "Next"):
        assert len(re.findall(f"^{line}", printed, re.MULTILINE)) == 1, line
    assert "2 devices" in printed
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    processes = {path.name.rsplit(".", 2)[1] for path in run.glob("events.out.tfevents.*")}  # ....<process>.<number>
    assert len(processes) == 1
    assert len({step for step, _ in metrics(run, "tokens")}) == len(metrics(run, "tokens")) == HALF


def test_two_processes_run_goes_on_in_one(  # type: ignore[no-untyped-def]
    pair: tuple[Path, str], straight: Path, corpus_folder: Path, capsys
) -> None:
    root = pair[0].parents[2]
    run = train(options(corpus_folder, root, STEPS), root, "--ckpt_path=last")
    assert "devices 1 instead of 2" in capsys.readouterr().out  # and what cannot be exact
    assert run == pair[0]
    same_curves(run, straight, HALF)


def copied(run: Path, root: Path) -> Path:
    """A copy of a run, to go on from; returns its new root."""
    import shutil

    shutil.copytree(run, root / "lightning_logs" / "run" / "version_0")
    return root


@pytest.mark.slow
def test_one_processs_run_goes_on_sharded_over_two(
    half: Path, straight: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    run, _ = fit(corpus_folder, copied(half, tmp_path / "on"), STEPS, *FSDP, "--ckpt_path=last")
    same_curves(run, straight, HALF)


def test_another_step_is_another_run(half: Path, corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    root = copied(half, tmp_path)
    more = ["--ckpt_path=last", "--data.tokens_per_step=128"]
    run = train(options(corpus_folder, root, STEPS), root, *more)
    assert "128 tokens instead of 256" in capsys.readouterr().out
    assert [step for step, _ in metrics(run, "train/loss")] == list(range(STEPS))
    place = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["TextDataModule"]["place"]
    assert place == (HALF * 4 + (STEPS - HALF) * 2) * 65  # no row twice, and none left out
    assert dict(metrics(run, "tokens"))[STEPS - 1] == HALF * 256 + (STEPS - HALF) * 128


@pytest.fixture(scope="module", params=[DDP, FSDP], ids=["ddp", "fsdp2"])
def by_two(request: pytest.FixtureRequest, corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as ``half``, by two processes with one micro-step."""
    return fit(corpus_folder, tmp_path_factory.mktemp("by_two"), HALF, *request.param)[0]


@pytest.mark.slow
def test_whoever_trains_the_checkpoint_is_the_same(by_two: Path, half: Path) -> None:
    same_curves(by_two, half)
    same_checkpoints(by_two, half)


@pytest.mark.slow
@pytest.mark.parametrize("way", [ALONE, DDP, FSDP], ids=["alone", "ddp", "fsdp2"])
def test_every_way_goes_on_from_every_other(
    by_two: Path, way: list[str], straight: Path, corpus_folder: Path, tmp_path: Path
) -> None:
    run, _ = fit(corpus_folder, copied(by_two, tmp_path / "on"), STEPS, *way, "--ckpt_path=last")
    same_curves(run, straight, HALF)


def same_checkpoints(one: Path, other: Path) -> None:
    """Weights and optimizer states, by the same names and numbers, whole, to float tolerance."""
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, other))
    assert a.keys() == b.keys()
    torch.testing.assert_close(a["state_dict"], b["state_dict"], rtol=1e-3, atol=1e-5)
    for x, y in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        torch.testing.assert_close(dict(x["state"]), dict(y["state"]), rtol=1e-3, atol=1e-5)
        assert [(g["name"], list(g["params"])) for g in x["param_groups"]] == [
            (g["name"], list(g["params"])) for g in y["param_groups"]
        ]


@pytest.mark.slow
def test_sharded_in_mixed_precision(corpus_folder: Path, tmp_path: Path) -> None:
    runs = [
        fit(corpus_folder, tmp_path / name, HALF, *way, "--trainer.precision=bf16-mixed")[0]
        for name, way in (("ddp", DDP), ("fsdp", FSDP))
    ]
    for name in ("train/loss", "val/bpb"):
        a, b = ([value for _, value in metrics(run, name)] for run in runs)
        assert a == pytest.approx(b, abs=0.02)


@pytest.mark.slow
def test_three_processes_score_a_checkpoint_as_one_does(half: Path, corpus_folder: Path, tmp_path: Path) -> None:
    """More rows than one batch holds, and no number of batches that three could share evenly."""
    root = copied(half, tmp_path / "on")
    said = []
    for way in (ALONE, DDP, FSDP, ["--trainer.devices=3", "--trainer.strategy=ddp"]):
        result = command("validate", *options(corpus_folder, root, STEPS), *way, "--ckpt_path=last", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        said.append(re.search(r"val/bpb (\S+) on ([\d,]+) held-out tokens", result.stdout).groups())  # type: ignore[union-attr]
    assert len(set(said)) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("way", [DDP, FSDP], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("victim", ["first", "second"])
def test_a_killed_process_ends_the_run(way: list[str], victim: str, corpus_folder: Path, tmp_path: Path) -> None:
    arguments = [*options(corpus_folder, tmp_path, 100_000), *way]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), "fit", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(tmp_path.rglob("metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.2)
    other = next(p for p in psutil.Process(process.pid).children() if "cli.py" in " ".join(p.cmdline()))
    (process if victim == "first" else other).send_signal(signal.SIGKILL)
    _, error = process.communicate(timeout=400)  # the pipe is closed when both have ended
    assert "Traceback" not in error
    if victim == "second":
        assert process.returncode in (2, -signal.SIGKILL)  # Lightning's observer may be faster
        assert "another process of this run has ended" in error or "Child process" in error
    _until_ended(other)


def _until_ended(process: psutil.Process, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "it lives on"
            time.sleep(0.1)


def test_what_cannot_be_dealt_out_is_refused_by_one_process(corpus_folder: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    """Before there are others: or each would say it."""
    assert main(["fit", *options(corpus_folder, tmp_path, 1), *DDP, "--data.tokens_per_step=384"]) == 2
    assert "on 2 devices: set --data.tokens_per_step=512" in capsys.readouterr().err
    assert main(["fit", *options(corpus_folder, tmp_path, 1), "--trainer.strategy=fsdp"]) == 2
    assert "take fsdp2" in capsys.readouterr().err


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_each_held_out_row_is_scored_once(world_size: int, corpus_folder: Path) -> None:
    prepared = prepare(CorpusOptions(str(corpus_folder)), 300)
    rows = HeldOutRows(prepared.val, 64)
    count = len(rows)
    sizes = prepared.tokenizer.token_bytes
    whole, parts = BitsPerByte(sizes), BitsPerByte(sizes)
    for rank in range(world_size):
        for metric, ranks, which in ((parts, world_size, rank), *([(whole, 1, 0)] if rank == 0 else [])):
            for ids, targets in HeldOutBatches(rows, count, prepared.tokenizer.bos, which, ranks):
                metric.update((ids * 7 % 11).float(), targets)  # a loss that depends on the row
    assert parts.bytes == whole.bytes == sum(sizes[t] for i in range(count) for t in rows.row(i)[1:])
    torch.testing.assert_close(parts.compute(), whole.compute())
