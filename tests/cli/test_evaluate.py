"""``evaluate``, ``tokenizer`` and the metric ``val/core`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanochat.cli import main
from nanochat.evaluation.bundle import CHOICE, LANGUAGE
from tests.cli.tools import command, metrics, tiny_options, train
from tests.evaluation.models import choice, language, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = [choice(f"the model {n}", ["reads text", "learns words"], n % 2) for n in range(30)]
    tasks = {"copa": (CHOICE, lines), "squad": (LANGUAGE, [language(f"row {n} of", "tokens") for n in range(6)])}
    return write_bundle(tmp_path_factory.mktemp("bundle"), tasks, baselines={"copa": 50}, shots=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path, bundle: Path) -> Path:
    """A run that logged CORE during training."""
    root = tmp_path_factory.mktemp("evaluate")
    options = ["--core.every_n_steps=2", f"--core.bundle={bundle}", "--trainer.log_every_n_steps=3"]
    return train(tiny_options(corpus_folder, root), root, *options)


def test_core_is_logged_during_training(run: Path) -> None:
    curve = metrics(run, "val/core")
    assert [step for step, _ in curve] == [1, 3]  # after two steps and after four
    copa = metrics(run, "core/copa")
    assert curve[0][1] == pytest.approx(sum(metrics(run, name)[0][1] for name in ("core/copa", "core/squad")) / 2)
    assert all(-1 <= value <= 1 for _, value in copa)


def test_logging_core_does_not_change_training(run: Path, corpus_folder: Path, tmp_path: Path) -> None:
    plain = train(tiny_options(corpus_folder, tmp_path), tmp_path, "--trainer.log_every_n_steps=3")
    assert metrics(plain, "train/loss") == metrics(run, "train/loss")
    assert metrics(plain, "val/core") == []


def test_evaluate_stores_and_reuses_results(run: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = run.parents[2]
    options = [f"--root={root}", f"--bundle={bundle}", "--max_per_task=10", "--device=cpu"]
    assert main(["evaluate", "--ckpt_path=last", "--name=run", "--tasks=core", *options]) == 0
    shown = capsys.readouterr().out
    assert "CORE over 2 of 22 tasks, 10 items of each at most: " in shown
    assert "copa" in shown
    (kept,) = json.loads((run / "evaluation.json").read_text())["evaluations"]
    assert kept["tasks"]["copa"]["items"] == 10
    assert kept["tasks"]["squad"]["items"] == 6
    assert main(["evaluate", *options]) == 0  # the newest run, a second time
    assert "2 of 2 tasks are already scored" in capsys.readouterr().out


def test_imported_model_has_equal_scores(run: Path, bundle: Path, corpus_folder: Path, tmp_path: Path) -> None:
    from tests.cli.tools import newest

    train(tiny_options(corpus_folder, tmp_path), tmp_path)
    last = newest(tmp_path) / "checkpoints" / "last.ckpt"
    assert main(["export", f"--ckpt_path={last}", f"--out={tmp_path / 'out'}"]) == 0
    assert main(["import", f"--folder={tmp_path / 'out'}", f"--out={tmp_path / 'back.ckpt'}"]) == 0
    values = []
    for path in (last, tmp_path / "back.ckpt"):
        assert main(["evaluate", f"--ckpt_path={path}", f"--bundle={bundle}", "--device=cpu"]) == 0
    for path in (last.parent.parent / "evaluation.json", tmp_path / "back.evaluation.json"):
        (kept,) = json.loads(path.read_text())["evaluations"]
        values.append({name: task["right"] for name, task in kept["tasks"].items()})
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks=cor"], "--tasks=cor: there is no cor, did you mean core?"),
        (["--ckpt_path=last", "--name=nobody"], "there is no run nobody below"),
        (["--ckpt_path=none.ckpt"], "there is no"),
        (["--max_per_task=0"], "--max_per_task must be at least 1, not 0"),
        (["--bundle=nowhere"], "there is no folder nowhere: give --bundle"),
        (["--device=gpu"], "there is no device gpu here that torch can use"),
        (["--precision=8"], "--precision=8 is not possible: expected one of"),
        (["--max_per_taks=3"], "there is no option --max_per_taks, did you mean --max_per_task?"),
    ],
)
def test_errors_are_one_line(
    run: Path, bundle: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--root={run.parents[2]}", "--device=cpu", f"--bundle={bundle}", *options]
    assert main(["evaluate", *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_core_options_are_checked(corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = tiny_options(corpus_folder, tmp_path)
    assert main(["fit", *options, "--core.every_n_steps=-1"]) == 2
    assert "--core.every_n_steps must be at least 0" in capsys.readouterr().err
    assert main(["fit", *options, "--core.every_n_steps=1", "--core.bundle=nowhere"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err


@pytest.mark.slow
def test_several_processes_give_equal_scores(run: Path, bundle: Path, tmp_path: Path) -> None:
    import os
    import shutil
    import subprocess
    import sys

    from tests.cli.tools import ROOT

    values = []
    for processes in (1, 2):
        path = tmp_path / f"{processes}.ckpt"
        shutil.copy(run / "checkpoints" / "last.ckpt", path)
        arguments = ["evaluate", f"--ckpt_path={path}", f"--bundle={bundle}", "--device=cpu"]
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        done = subprocess.run(
            [*start, str(ROOT / "cli.py"), *arguments], capture_output=True, text=True, timeout=800, env={**os.environ}
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("CORE over 2 of 22 tasks") == 1
        (kept,) = json.loads((tmp_path / f"{processes}.evaluation.json").read_text())["evaluations"]
        values.append({name: (task["right"], task["items"]) for name, task in kept["tasks"].items()})
    assert values[0] == values[1]


# ------------------------------------------------------------------------------------------------ the tokenizer


def test_tokenizer_train_and_evaluate(
    corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanochat.tokenizer import Tokenizer, compression

    path = tmp_path / "tokenizer.json"
    train_it = ["tokenizer", "train", f"--corpus={corpus_folder}", f"--out={path}"]
    assert main([*train_it, "--vocab_size=300"]) == 0
    first = Tokenizer.load(path)
    assert first.vocab_size == 300
    assert first.decode(first.encode("the model reads")) == "the model reads"
    assert main([*train_it, "--vocab_size=320"]) == 2
    assert "there is already" in capsys.readouterr().err
    assert main([*train_it, "--vocab_size=320", "--overwrite"]) == 0
    assert Tokenizer.load(path).vocab_size == 320
    monkeypatch.setattr(compression, "REFERENCES", {"GPT-0": "no such encoding"})
    own = tmp_path / "own.txt"
    own.write_text("the model reads text and learns " * 20)
    capsys.readouterr()
    assert main(["tokenizer", "evaluate", f"--tokenizer={path}", f"--text={own}"]) == 0
    header, figures, absent = capsys.readouterr().out.splitlines()[1:]
    assert header.split() == ["prose", "code", "numbers", "other", "scripts", "own.txt"]
    assert float(figures.split()[-1]) > 1.5  # its training text has these words
    assert absent.startswith("Not compared with GPT-0: ")


def test_tokenizer_of_a_run(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from nanochat.tokenizer import compression

    monkeypatch.setattr(compression, "REFERENCES", {})
    assert main(["tokenizer", "evaluate", f"--root={run.parents[2]}", "--name=run"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("run ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "there is no command tokenizer trian, did you mean train?"),
        (["train", "--out=x.json", "--vocab_size=3"], "a vocabulary of 3 is too small"),
        (["evaluate", "--tokenizer=none.json"], "there is no file none.json"),
        (["evaluate", f"--tokenizer={__file__}"], "test_evaluate.py is not a tokenizer file: "),
        (["train", "--outt=x"], "there is no option --outt, did you mean --out?"),
    ],
)
def test_tokenizer_errors_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help() -> None:
    for words in (["evaluate", "--help"], ["tokenizer", "train", "--help"]):
        done = command(*words)
        assert done.returncode == 0
        assert "--" in done.stdout
