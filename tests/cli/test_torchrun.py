"""torchrun: two "nodes" on loopback, signals, and workers that are started again."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.tools import ROOT, metrics, tiny_options, train

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def options(corpus: Path, root: Path, steps: int) -> list[str]:
    return [
        *(*tiny_options(corpus, root), "--trainer.accelerator=cpu", "--model.warmdown=0", "--data.validations=1"),
        *("--model.matrix_lr=0.03", "--model.embedding_lr=0.3", "--model.head_lr=0.01"),  # whatever the number of steps
        f"--trainer.max_steps={steps}",
    ]


def torchrun(launch: list[str], arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    return start([*TORCHRUN, *launch, "cli.py", "fit", *arguments, "--trainer.strategy=ddp"], **environment)


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes below it, those of the DataLoaders included."""
    return psutil.Process(process.pid).children(recursive=True)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Those that torchrun started itself."""
    return psutil.Process(process.pid).children()


def wait_for(pattern: str, root: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not list(root.rglob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None


@pytest.fixture(scope="module")
def alone(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("alone")
    return train(options(corpus_folder, root, 5), root)


@pytest.mark.parametrize("way", ["torchrun", "by hand"])
def test_two_nodes_see_what_one_process_sees(way: str, alone: Path, corpus_folder: Path, tmp_path: Path) -> None:
    arguments = [*options(corpus_folder, tmp_path, 5), "--trainer.num_nodes=2", "--trainer.devices=1"]
    port = free_port()
    nodes = []
    for node in range(2):
        if way == "torchrun":
            where = [f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-backend=c10d"]
            nodes.append(torchrun(["--nnodes=2", "--nproc-per-node=1", *where], arguments))
        else:
            who = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(node)}
            nodes.append(start([sys.executable, "cli.py", "fit", *arguments], **who))
    printed = [node.communicate(timeout=400)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    assert sum(text.count("Done in") for text in printed) == 1
    together = tmp_path / "lightning_logs" / "run" / "version_0"
    for name in ("train/loss", "train/gradient_norm", "val/bpb", "val/bpb_all"):
        a, b = (dict(metrics(run, name)) for run in (together, alone))
        assert a.keys() == b.keys(), name
        assert list(a.values()) == pytest.approx(list(b.values()), rel=1e-4), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_torchrun_leaves_a_checkpoint(number: signal.Signals, corpus_folder: Path, tmp_path: Path) -> None:
    """It passes the signal on to the whole group of each worker, where the DataLoader's processes are as well."""
    arguments = [*options(corpus_folder, tmp_path, 100_000), "--trainer.devices=2", "--data.num_workers=1"]
    process = torchrun(["--standalone", "--nproc-per-node=2"], arguments)
    wait_for("metrics.csv", tmp_path, process)
    others = family(process)
    assert len(others) >= 4
    process.send_signal(number)
    printed, _ = process.communicate(timeout=400)
    assert process.returncode != 0
    step = int(re.search(r"Stopped after step ([\d,]+); all is saved", printed)[1].replace(",", ""))  # type: ignore[index]
    assert "DataLoader worker" not in printed
    _, alive = psutil.wait_procs(others, timeout=60)
    assert not alive
    run = train([*options(corpus_folder, tmp_path, step + 2), "--ckpt_path=auto"], tmp_path)
    assert [s for s, _ in metrics(run, "train/loss")] == list(range(step + 2))
    assert run.name == "version_0"


def test_workers_that_are_started_again_go_on(corpus_folder: Path, tmp_path: Path) -> None:
    """By a store of their own: torchrun's keeps the addresses of the dead, and who reads them first waits for ever."""
    more = ["--trainer.devices=2", "--ckpt_path=auto", "--checkpoint.every_n_train_steps=10"]
    launch = [
        "--standalone",
        "--nproc-per-node=2",
        "--max-restarts=1",
    ]  # as docs/cluster.md says
    process = torchrun(launch, [*options(corpus_folder, tmp_path, 600), *more], TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    wait_for("last.ckpt", tmp_path, process)
    workers(process)[1].kill()
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    assert len(re.findall(r"Resuming from \S+last.ckpt, step \d+0\.", printed)) == 1
    assert printed.count("Done in") == 1
    runs = list((tmp_path / "lightning_logs" / "run").iterdir())
    assert [run.name for run in runs] == ["version_0"]
    assert [step for step, _ in metrics(runs[0], "train/loss")] == list(range(600))
