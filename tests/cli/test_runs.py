"""`runs`: listing runs and caches, and removing them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanochat.cli import main
from nanochat.housekeeping.listing import is_training, run_row, runs_table
from nanochat.runs import read_run
from nanochat.text_table import shorten

EVENTS = "events.out.tfevents.{time}.{host}.{pid}.0"


def make(
    root: Path, label: str, bpb: float | None = None, age: float = 0.0, pid: int | None = None, host: str | None = None
) -> Path:
    """Creates a run folder as training writes it; without a score, the run was stopped before its end."""
    folder = root / "lightning_logs" / label
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"x" * 1000)
    (folder / "config.yaml").write_text("model: {depth: 4, width: null}\nstage: pretrain\n")
    (folder / "metrics.csv").write_text("step,seconds,val/bpb\n0,1.5,\n9,30.0,2.5\n11,33.0,\n")
    name = EVENTS.format(time=int(time.time()), host=host or platform.node(), pid=pid or 2**22 + 1)
    (folder / name).write_bytes(b"")
    if bpb is not None:
        summary = {"val_bpb": bpb, "seconds": 315.0, "steps": 100, "parameters": 20_000_000, "complete": True}
        (folder / "summary.json").write_text(json.dumps(summary))
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - age, time.time() - age))
    return folder


def listed(capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    capsys.readouterr()
    assert main(["runs", *options]) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert main(["runs", *options]) == 2
    return capsys.readouterr().err


def test_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "tiny/version_0", 1.65, age=200)
    make(tmp_path, "deep/version_3", age=100)
    lines = listed(capsys, f"--root={tmp_path}")
    assert lines[0].split() == ["run", "model", "stage", "date", "val/bpb", "time", "disk"]
    old, new = lines[1].split(), lines[2].split()
    assert (old[:3], old[-4:-1]) == (["tiny/version_0", "4x256", "pretrain"], ["1.6500", "5:15", "1"])
    assert new[:2] == ["*", "deep/version_3"]
    assert "2.5000" in new  # the last score of the stopped run, after 33 seconds
    assert "0:33" in new
    assert "* stopped before its end" in "\n".join(lines)
    assert max(map(len, lines)) <= 80
    best_last = listed(capsys, f"--root={tmp_path}", "--sort=bpb")
    assert "tiny/version_0" in best_last[2]


def test_list_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path, "tiny/version_0", 1.65)
    (row,) = json.loads("\n".join(listed(capsys, f"--root={tmp_path}", "--json")))
    assert (row["run"], row["depth"], row["width"], row["val_bpb"]) == ("tiny/version_0", 4, 256, 1.65)
    assert (row["state"], row["steps"], row["folder"]) == ("complete", 100, str(folder))
    assert row["size_bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_long_names_are_shortened(tmp_path: Path) -> None:
    run = read_run(make(tmp_path, f"{'long' * 30}/version_12", 1.65))
    lines = runs_table([run_row(run)]).splitlines()
    assert max(map(len, lines)) == 80
    assert "1.6500" in lines[1]
    assert "version_12" in lines[1]
    assert shorten("abcdefghij", 7) == "ab…ghij"


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "There are no runs" in listed(capsys, f"--root={tmp_path}")[0]
    assert json.loads("\n".join(listed(capsys, f"--root={tmp_path}", "--json"))) == []


def test_remove_by_name_and_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    removed, kept = make(tmp_path, "tiny/version_0", 1.65), make(tmp_path, "tiny/version_1", 1.6)
    size = sum(path.stat().st_size for path in removed.rglob("*") if path.is_file())
    output = "\n".join(listed(capsys, f"--root={tmp_path}", "--yes", "--remove", "tiny/version_0"))
    assert f"Removed: {size / 1e3:.0f} KB freed" in output
    assert not removed.exists()
    assert kept.is_dir()
    listed(capsys, f"--root={tmp_path}", "--yes", "--remove", str(kept))  # a path, as completed by a shell
    assert not kept.parent.exists()
    assert (tmp_path / "lightning_logs").is_dir()


def test_remove_all_runs_of_a_name_and_its_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for version in range(2):
        make(tmp_path, f"sweep/version_{version}", 2.0)
    for name in ("sweep.db", "analysis.html"):
        (tmp_path / "lightning_logs" / "sweep" / name).write_bytes(b"")
    other = make(tmp_path, "sweep-2/version_0", 2.0)
    (other.parent / "notes.txt").write_text("mine")
    listed(capsys, f"--root={tmp_path}", "--yes", "--remove", "sweep")
    assert not (tmp_path / "lightning_logs" / "sweep").exists()
    listed(capsys, f"--root={tmp_path}", "--yes", "--remove", "sweep-2")
    assert [path.name for path in other.parent.iterdir()] == ["notes.txt"]  # not a file of the sweep


def test_no_removal_without_a_terminal_or_yes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path, "tiny/version_0", 1.65)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert "add --yes to remove" in refused(capsys, f"--root={tmp_path}", "--remove", "tiny/version_0")
    assert folder.is_dir()


@pytest.mark.parametrize(("answer", "removed"), [("", False), ("n", False), ("yes please", False), ("Y", True)])
def test_confirmation(
    answer: str,
    removed: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = make(tmp_path, "tiny/version_0", 1.65)
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    listed(capsys, f"--root={tmp_path}", "--remove", "tiny/version_0")
    assert "Remove the run tiny/version_0 permanently? [y/N]" in asked[0]
    assert folder.is_dir() != removed


@pytest.mark.parametrize("name", ["..", "../tiny", "/etc", "tiny/..", "tiny/version_0/checkpoints", "tiny/notes", "."])
def test_paths_outside_are_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "tiny/version_0", 1.65)
    (tmp_path / "lightning_logs" / "tiny" / "notes").mkdir()
    error = refused(capsys, f"--root={tmp_path}", "--yes", "--remove", name)
    assert "is not a run" in error or "no run in" in error
    assert (tmp_path / "lightning_logs" / "tiny" / "version_0").is_dir()
    assert (tmp_path / "lightning_logs" / "tiny" / "notes").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("link", ["tiny", "tiny/version_0"])
def test_linked_runs_are_refused(link: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = make(tmp_path / "elsewhere", "tiny/version_0", 1.65)
    path = tmp_path / "lightning_logs" / link
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere.parent if link == "tiny" else elsewhere)
    assert "is a link" in refused(capsys, f"--root={tmp_path}", "--yes", "--remove", "tiny/version_0")
    assert (elsewhere / "summary.json").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_targets_of_links_in_a_run_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path, "tiny/version_0", 1.65)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    (folder / "link").symlink_to(tmp_path / "precious")
    listed(capsys, f"--root={tmp_path}", "--yes", "--remove", "tiny/version_0")
    assert not folder.exists()
    assert (tmp_path / "precious" / "file").read_text() == "mine"


def test_remove_unfinished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complete, stopped = make(tmp_path, "a/version_0", 1.65), make(tmp_path, "a/version_1")
    listed(capsys, f"--root={tmp_path}", "--yes", "--remove_unfinished")
    assert complete.is_dir()
    assert not stopped.exists()
    assert "nothing is removed" in listed(capsys, f"--root={tmp_path}", "--yes", "--remove_unfinished")[0]


def test_runs_in_training_are_recognised_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder = make(tmp_path, "tiny/version_0", pid=process.pid)
    try:
        assert is_training(read_run(folder))
        assert "> tiny/version_0" in "\n".join(listed(capsys, f"--root={tmp_path}"))
        assert "is in training" in refused(capsys, f"--root={tmp_path}", "--yes", "--remove", "tiny")
        assert "is in training" in refused(capsys, f"--root={tmp_path}", "--yes", "--clear_caches")
        listed(capsys, f"--root={tmp_path}", "--yes", "--remove_unfinished")
        assert folder.is_dir()
    finally:
        process.communicate(b"\n")
    assert not is_training(read_run(folder))
    finished = make(tmp_path, "tiny/version_1", 1.65, pid=os.getpid())
    assert not is_training(read_run(finished))  # although its process is still alive
    resumed = make(tmp_path, "tiny/version_2", 1.65, pid=os.getpid())
    os.utime(resumed / "summary.json", (1, 1))
    assert is_training(read_run(resumed))  # its event file is newer than its summary
    assert not is_training(read_run(make(tmp_path, "tiny/version_3", host="elsewhere", age=3600)))
    assert is_training(read_run(make(tmp_path, "tiny/version_4", host="elsewhere", age=1)))


def test_caches_are_listed_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    for name in ("tokens", "corpora", "mine"):
        (cache / name).mkdir(parents=True)
        (cache / name / "file").write_bytes(b"x" * 2000)
    (cache / "chat_history").write_text("not a cache")
    monkeypatch.setenv("NANOCHAT_CACHE", str(cache))
    rows = json.loads("\n".join(listed(capsys, "--caches", "--json")))
    assert {row["name"]: row["size_bytes"] for row in rows} == {"tokens": 2000, "corpora": 2000}
    assert "there is no cache mine" in refused(capsys, "--clear_caches", "mine", "--yes", f"--root={tmp_path}")
    listed(capsys, "--clear_caches", "tokens", "--yes", f"--root={tmp_path}")
    assert sorted(path.name for path in cache.iterdir()) == ["chat_history", "corpora", "mine"]
    output = listed(capsys, "--clear_caches", "--yes", f"--root={tmp_path}")
    assert output[-1] == "Removed: 2 KB freed."
    assert sorted(path.name for path in cache.iterdir()) == ["chat_history", "mine"]


def test_help_does_not_import_torch() -> None:
    code = "import sys; from nanochat.cli import main; main(['runs', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--remove_unfinished" in done.stdout
