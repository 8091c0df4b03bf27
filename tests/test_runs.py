"""Reading run folders: complete, damaged, and still being written."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.runs import find_runs, read_run
from tests.cli.tools import ROOT, tiny_options, train


def write(root: Path, name: str, version: int = 0, time: float | None = None, **files: str) -> Path:
    """Writes a run folder; in the keywords, the first "_" of a file name stands for its dot."""
    folder = root / "lightning_logs" / name / f"version_{version}"
    for file, text in files.items():
        path = folder / file.replace("_", ".", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if time is not None:
            os.utime(path, (time, time))
    return folder


def test_real_run(corpus_folder: Path, tmp_path: Path) -> None:
    folder = train(tiny_options(corpus_folder, tmp_path), tmp_path)
    (run,) = find_runs(tmp_path)
    assert (run.folder, run.name, run.version, run.stage, run.label) == (folder, "run", 0, "pretrain", "run/version_0")
    assert run.complete
    assert run.problems == []
    assert run.summary["steps"] == 4
    assert run.config["model"]["depth"] == 1
    assert run.evaluation == {}
    assert set(run.checkpoints) == {"last", "best"}
    assert run.checkpoint == folder / "checkpoints" / "last.ckpt"
    assert run.started_from is None
    assert 0 < run.started <= run.updated + 1  # started is in whole seconds
    assert run.size_bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    table = run.metrics()
    assert table["step"] == [0, 1, 2, 3]
    assert table["tokens"] == [256, 512, 768, 1024]
    assert math.isnan(table["val/bpb"][0])
    steps, values = run.curve("val/bpb")
    assert steps == [1, 3]
    assert min(values) == run.summary["best_val_bpb"]
    assert run.curve("val/bpb", against="tokens")[0] == [512, 1024]
    assert run.curve("no/such") == ([], [])


def test_runs_are_sorted_by_last_training(tmp_path: Path) -> None:
    write(tmp_path, "b", 1, 300, summary_json="{}")
    write(tmp_path, "b", 0, 100, summary_json="{}")
    scored = write(tmp_path, "a", 0, 200, summary_json="{}")
    (scored / "evaluation.json").write_text("{}")  # written now, but evaluation is not training
    (tmp_path / "lightning_logs" / "b" / "version_2").mkdir()  # empty: not a run
    assert [run.label for run in find_runs(tmp_path)] == ["b/version_0", "a/version_0", "b/version_1"]
    assert find_runs(tmp_path / "nowhere") == []


def test_stage_comes_from_the_config_or_else_the_name(tmp_path: Path) -> None:
    configured = read_run(write(tmp_path, "mine", config_yaml="stage: chat\nstart_from: other\n"))
    assert (configured.stage, configured.base_name, configured.started_from) == ("chat", "mine", "other")
    named = read_run(write(tmp_path, "tiny-reinforce", summary_json='{"started_from": "a.ckpt"}'))
    assert (named.stage, named.base_name, named.started_from) == ("reinforce", "tiny", "a.ckpt")


def test_damaged_files_are_reported(tmp_path: Path) -> None:
    lines = ["step,tokens,seconds,val/bpb", "0,10,1.0,", "nonsense", "1,20,2.0,3.5", "2,30"]
    folder = write(
        tmp_path,
        "run",
        summary_json='{"complete": tr',
        config_yaml="[a, list]",
        evaluation_json="[" * 100_000,
        metrics_csv="\n".join(lines),
    )
    (run,) = find_runs(tmp_path)
    assert not run.complete
    assert (run.summary, run.config, run.evaluation) == ({}, {}, {})
    assert [problem.split()[0] for problem in run.problems] == ["config.yaml", "summary.json", "evaluation.json"]
    assert run.metrics()["step"] == [0, 1]
    assert run.curve("val/bpb") == ([1], [3.5])
    assert run.problems[3:] == ["metrics.csv: 2 damaged lines left out"]  # once, although read twice
    (folder / "metrics.csv").write_bytes(b"step,loss\n1,\xff\n2,\x00\n")
    assert read_run(folder).metrics()["step"][:1] == [1]


@pytest.mark.parametrize("text", ["a: &a [*a]", "? {}", "!!python/object/apply:os.system [true]", "a: [\x07"])
def test_malicious_config_is_harmless(tmp_path: Path, text: str) -> None:
    run = read_run(write(tmp_path, "run", config_yaml=text))
    assert isinstance(run.config, dict)


def test_folder_without_a_run(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="there is no run in the folder"):
            read_run(folder)


def test_torch_is_not_imported(tmp_path: Path) -> None:
    write(tmp_path, "run", summary_json=json.dumps({"complete": True}))
    check = f"print(len(find_runs({str(tmp_path)!r})), 'torch' in sys.modules)"
    code = f"import sys; from nanochat.runs import find_runs; {check}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["1", "False"]
