"""`sweep`: its trials, interruptions, concurrent processes, and results."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from nanochat.cli import main, sweep_check
from nanochat.cli import sweep as command_line
from nanochat.cli.sweep_check import CommonOptions, _check
from nanochat.runs import find_runs, read_run
from tests.cli.tools import ROOT, metrics, tiny_options
from tests.sweeping.fake_fit import HELD_AT, STEPS

FAKE = [sys.executable, "-m", "tests.sweeping.fake_fit"]
# A sweep in a subprocess, with the fake fit and without checking the options of fit.
SWEEP = """
import sys
from nanochat.cli import main, sweep, sweep_check
from nanochat.cli.sweep_check import CommonOptions
sweep.program = lambda: [sys.executable, "-m", "tests.sweeping.fake_fit"]
common = CommonOptions("run", "pretrain", sys.argv[1], 42, None, False, {"pace": sys.argv[2]})
sweep_check.check_options = lambda fit, variations: common
sys.exit(main(["sweep", "--analyze=false", f"--root={sys.argv[1]}", f"--pace={sys.argv[2]}", *sys.argv[3:]]))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trains the trials with the fake fit; returns the root folder."""
    monkeypatch.setattr(command_line, "program", lambda: FAKE)
    common = CommonOptions("run", "pretrain", str(tmp_path), 42, None, False, {})
    monkeypatch.setattr(sweep_check, "check_options", lambda fit, variations: common)
    monkeypatch.setattr("nanochat.sweeping.trial_process.POLL_SECONDS", 0.02)
    return tmp_path


def sweep(root: Path, *options: str, status: int = 0) -> None:
    assert main(["sweep", "--analyze=false", f"--root={root}", *options]) == status


def started(root: Path, pace: float, *options: str) -> subprocess.Popen[str]:
    """Starts a sweep in a subprocess."""
    return subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(root), str(pace), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def wait_for_steps(run: Path, steps: int) -> None:
    """Waits until a trial of the fake fit has finished a number of steps."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            if json.loads((run / "last.json").read_text())["steps"] >= steps:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.01)
    raise AssertionError(f"{run} has not come to step {steps}")


def hold(root: Path, *trials: int) -> str:
    """Makes trials of the fake fit wait at step HELD_AT until :func:`release`; returns the option for this."""
    for number in trials:
        (root / f"hold{number}").touch()
    return f"--hold={root / 'hold'}"


def release(root: Path) -> None:
    for path in root.glob("hold*"):
        path.unlink()


def starts(run: Path) -> list[int]:
    """The first step of each process that worked on a trial."""
    return [int(line) for line in (run / "starts.txt").read_text().split()]


# ---------------------------------------------------------------------------------------------- results


def test_grid(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(fake, "--over", "model.quality=0.5,1.0", "--over=model.depth=4,6")
    output = capsys.readouterr().out
    assert "model.quality (0.5, 1.0) x model.depth (4, 6)" in output
    assert "trials  4: all combinations" in output
    runs = {run.version: run for run in find_runs(fake)}
    assert [runs[number].label for number in range(4)] == [f"run-sweep/version_{number}" for number in range(4)]
    assert [runs[number].summary["val_bpb"] for number in range(4)] == [2.5, 2.5, 2.0, 2.0]
    table = output.split("\n\n")[2].splitlines()
    assert table[0].split() == ["trial", "quality", "depth", "val/bpb", "time", "status"]
    assert [row.split()[0] for row in table[1:]] == ["2", "3", "0", "1"]
    assert table[1].split()[1:] == ["1.0", "4", "2.0000", "0:02", "done"]
    assert "Best: quality=1.0 depth=4 with val/bpb 2.0000 (version_2)" in output
    assert "with --seeds=3" in " ".join(output.split())
    assert max(map(len, output.splitlines()[-12:])) <= 80


def test_more_seeds_extend_a_sweep(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(fake, "--over=model.quality=0.5,1.0")
    sweep(fake, "--over=model.quality=0.5,1.0", "--seeds=3")
    output = " ".join(capsys.readouterr().out.split())
    runs = {run.version: run for run in find_runs(fake)}
    assert sorted(runs) == [0, 1, 2, 3, 4, 5]
    assert all(starts(run.folder) == [0] for run in runs.values())
    # seeds 42, 43, 44 add 0, 0.01 and 0.02 to the score of every setting, so the differences have no noise
    assert "Best: quality=1.0 with val/bpb 2.0100 (3 seeds), 0.5000 below the next, quality=0.5." in output
    assert "up to 0.0000 in 19 of 20 cases (standard error 0.0000): this lead is larger than the noise" in output


def test_failed_trials_are_reported(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(fake, "--over=model.quality=bad,crash,0.666,1.0")
    output = capsys.readouterr().out
    one_line = " ".join(output.split())
    assert "trial 0 failed: --model.quality=bad is not possible: expected a number" in one_line
    assert "trial 1 failed: RuntimeError: an unexpected error (exit status 1)" in one_line
    assert "trial 2 failed: its val/bpb is nan" in one_line
    assert "trial 3 quality=1.0 seed=42 val/bpb 2.0000" in one_line
    assert "Traceback" in (fake / "lightning_logs" / "run-sweep" / "output" / "1.txt").read_text()
    sweep(fake, "--over=model.quality=bad,crash,0.666,1.0", "--retry_failed")
    assert sorted(run.version for run in find_runs(fake) if starts(run.folder)) == [2, 3, 6]
    sweep(fake, "--over=model.quality=bad", "--name=all-bad", status=2)
    assert "nothing to compare" in capsys.readouterr().out


def test_hopeless_trials_are_pruned(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(fake, "--over=model.quality=0.9,0.8,0.7,-5,1.0", "--prune", hold(fake, 3))  # trial 3 waits until it is pruned
    output = capsys.readouterr().out
    assert re.search(r"trial 3  quality=-5 seed=42  pruned at val/bpb \d", output)
    hopeless = fake / "lightning_logs" / "run-sweep" / "version_3"
    assert json.loads((hopeless / "last.json").read_text())["steps"] < STEPS
    assert not (hopeless / "summary.json").exists()
    assert read_run(hopeless.with_name("version_4")).complete


def test_options_override_varied_config_files(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = fake / "told.txt"
    code = f"import sys; open({str(told)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))"
    monkeypatch.setattr(command_line, "program", lambda: [sys.executable, "-c", code])
    sweep(fake, "--over=config=a.yaml,b.yaml", "--over=model.depth=4", "--plan.minutes=1", status=2)
    lines = told.read_text().splitlines()
    assert lines[1] == (
        f"fit --config=b.yaml --root={fake} --plan.minutes=1 --model.depth=4 "
        "--name=run-sweep --version=1 --seed_everything=42 --ckpt_path=auto"
    )


def test_search_with_halving(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(fake, "--over=model.quality=0.0..1.0", "--search=4", "--prune", "halving")
    assert "trials  4: 4 settings, drawn by TPE" in capsys.readouterr().out
    assert len(find_runs(fake)) == 4


def test_completed_trials_are_analysed_once(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    analysed = []
    monkeypatch.setattr(command_line, "_analyze", lambda runs, folder: analysed.append([run.name for run in runs]))
    for _ in range(2):  # the second sweep has nothing new to analyse
        assert main(["sweep", f"--root={fake}", "--over=model.quality=1.0,bad,0.5"]) == 0
    assert analysed == [["version_0", "version_2"]]


# -------------------------------------------------------------------------------------------------- interruptions


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_sweep_resumes_after_a_signal(number: signal.Signals, status: int, tmp_path: Path) -> None:
    run = tmp_path / "lightning_logs" / "run-sweep" / "version_1"
    options = ("--over=model.quality=0.5,1.0", hold(tmp_path, 1))
    process = started(tmp_path, 0.01, *options)
    wait_for_steps(run, HELD_AT)
    process.send_signal(number)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == status, output
    assert "Stopped. The progress of the current trial is saved. To resume the sweep:" in output
    assert "--over=model.quality=0.5,1.0" in output.splitlines()[-1]
    assert "Traceback" not in output
    assert not (run / "summary.json").exists()
    release(tmp_path)
    again = started(tmp_path, 0.01, *options)
    output, _ = again.communicate(timeout=400)
    assert again.returncode == 0, output
    assert "quality=1.0 (trial 1) was interrupted and is resumed." in output
    assert starts(run.with_name("version_0")) == [0]
    first, second = starts(run)
    assert (first, second >= 2) == (0, True)  # resumed at the step where it was stopped
    assert read_run(run).complete


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_sweep_resumes_after_a_kill(tmp_path: Path) -> None:
    run = tmp_path / "lightning_logs" / "run-sweep" / "version_1"
    options = (tmp_path, 0.01, "--over=model.quality=0.5,1.0", hold(tmp_path, 1))
    process = started(*options)
    wait_for_steps(run, HELD_AT)
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    child.kill()
    process.communicate()
    release(tmp_path)
    output, _ = (again := started(*options)).communicate(timeout=400)
    assert again.returncode == 0, output
    assert "quality=1.0 (trial 1) was interrupted and is resumed." in output
    assert starts(run.with_name("version_0")) == [0]
    first, second = starts(run)
    assert (first, second >= 2) == (0, True)
    assert [read_run(run.with_name(f"version_{n}")).summary["val_bpb"] for n in range(2)] == [2.5, 2.0]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("then", ["it ends", "it is killed"])
def test_running_trial_of_a_killed_sweep_is_awaited(then: str, tmp_path: Path) -> None:
    """No second process is started for the same trial."""
    run = tmp_path / "lightning_logs" / "run-sweep" / "version_0"
    options = (tmp_path, 0.01, "--over=model.quality=1.0", hold(tmp_path, 0))
    process = started(*options)
    wait_for_steps(run, HELD_AT)
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    again = started(*options)
    assert again.stdout is not None
    line = ""
    while "waiting for it" not in line:
        assert again.poll() is None
        line = again.stdout.readline()
    assert line == f"quality=1.0 (trial 0) is still running in process {child.pid}: waiting for it.\n"
    if then == "it is killed":
        child.kill()
    release(tmp_path)
    output, _ = again.communicate(timeout=400)
    assert again.returncode == 0, output
    assert "trial 0  quality=1.0 seed=42  val/bpb 2.0000" in output
    assert starts(run) == ([0] if then == "it ends" else [0, HELD_AT])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_trial_that_finished_after_its_sweep_was_killed(tmp_path: Path) -> None:
    run = tmp_path / "lightning_logs" / "run-sweep" / "version_0"
    options = (tmp_path, 0.01, "--over=model.quality=1.0", hold(tmp_path, 0))
    process = started(*options)
    wait_for_steps(run, HELD_AT)
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    release(tmp_path)
    wait_for_steps(run, STEPS)
    child.wait(60)
    output, _ = (again := started(*options)).communicate(timeout=400)
    assert again.returncode == 0, output
    assert "trial 0  quality=1.0 seed=42  val/bpb 2.0000" in output
    assert starts(run) == [0]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_trial_stopped_from_outside_has_failed(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stop() -> None:
        wait_for_steps(fake / "lightning_logs" / "run-sweep" / "version_0", HELD_AT)
        # the newest child, since processes of other tests may still exist
        max(psutil.Process().children(), key=psutil.Process.create_time).terminate()

    held = hold(fake, 0)
    thread = threading.Thread(target=stop)
    thread.start()
    sweep(fake, "--over=model.quality=1.0,0.5", held)
    thread.join()
    output = capsys.readouterr().out
    assert "trial 0 failed: it was stopped from outside (--retry_failed retries it)" in output
    assert "trial 1  quality=0.5 seed=42  val/bpb 2.5000" in output


def test_two_processes_share_the_trials(tmp_path: Path) -> None:
    options = ["--over=model.quality=0.1,0.2,0.4,0.6", "--name=shared", hold(tmp_path, 0, 1)]
    processes = [started(tmp_path, 0.01, *options) for _ in range(2)]
    for number in range(2):  # each process has started one
        wait_for_steps(tmp_path / "lightning_logs" / "shared" / f"version_{number}", HELD_AT)
    release(tmp_path)
    output = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], output
    done = [re.findall(r"^trial (\d)  .* val/bpb", text, re.MULTILINE) for text in output]
    assert sorted(done[0] + done[1]) == list("0123")
    assert all(done)  # each process completed at least one
    runs = find_runs(tmp_path)
    assert len(runs) == 4
    assert all(starts(run.folder) == [0] and run.complete for run in runs)
    ends = [" ".join(text.split()) for text in output]
    # a process that ends while another is still training does not print the best setting
    assert all(
        ("the last process to finish prints the best setting" in text) != ("Best: quality=0.6" in text) for text in ends
    )
    assert any("Best: quality=0.6" in text for text in ends)


# ----------------------------------------------------------------------------------------------- invalid options


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["sweep", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    return line.removeprefix("nanochat: error: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--over=model.deptth=4,6"], "there is no option --model.deptth, did you mean --model.depth?"),
        (["--over=model.depth=0,4"], "the depth must be at least 1, not 0"),
        (["--over=model.depth=1,deep"], "--model.depth=deep is not possible: expected a whole number"),
        (["--over=model.warmdown=0.2..7.0", "--search=3"], "--model.warmdown must be from 0 to 1, not 7.0"),
        (["--over=model.depth=1", "--trainer.max_stepz=3"], "did you mean --trainer.max_steps?"),
        (["--over=model.depth=1", "--seedz=3"], "there is no option --seedz, did you mean --seeds?"),
        (["--over=model.depth=1", "--ckpt_path=last"], "--ckpt_path cannot be used with a sweep"),
        (["--over=model.depth=1", "--seeds=0"], "--seeds must be at least 1, not 0"),
        (["--over=model.depth=1", "--search=0"], "--search must be at least 1, not 0"),
        (["--over=model.depth=1..4"], "add --search=20 to try 20 settings from it"),
        ([], "no option to vary"),
        (["--over=model.depth=1", "--prune=mean"], "prune"),
    ],
)
def test_invalid_options_are_refused_before_training(
    options: list[str],
    message: str,
    corpus_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def in_this_process(fit: list[str], variations: list[list[str]]) -> CommonOptions:
        answer = _check(list(fit), variations)
        if isinstance(answer, str):
            raise command_line.UsageError(answer)
        return answer

    monkeypatch.setattr(sweep_check, "check_options", in_this_process)
    fit = [word for word in tiny_options(corpus_folder, tmp_path) if not word.startswith("--name")]
    assert message in error_of([*fit, *options], capsys)
    assert not (tmp_path / "lightning_logs").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_during_the_check_of_options(tmp_path: Path) -> None:
    words = ["sweep", "--over=model.depth=1,2", f"--trainer.default_root_dir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not psutil.Process(process.pid).children() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert "To resume the sweep:" in output


def test_split_arguments() -> None:
    words = [
        "--config",
        "a.yaml",
        "--over",
        "model.depth=4",
        "--seeds=3",
        "--prune",
        "--plan.minutes=1",
        "--prune=halving",
    ]
    own, fit = command_line.split_arguments([*words, "--prune", "halving", "--retry_failed", "--search", "20"])
    assert fit == ["--config", "a.yaml", "--plan.minutes=1"]
    assert own[:5] == ["--over", "model.depth=4", "--seeds=3", "--prune", "--prune=halving"]
    assert own[5:] == ["--prune", "halving", "--retry_failed", "--search", "20"]


def test_help_fits_80_columns_without_importing_torch() -> None:
    code = "import sys; from nanochat.cli import main; main(['sweep', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    for option in ("--over", "--search", "--seeds", "--prune", "--retry_failed", "sweep --config configs/tiny.yaml"):
        assert option in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


# ------------------------------------------------------------------------------------------------- real training


def real(corpus: Path, root: Path, *more: str) -> list[str]:
    fit = [word for word in tiny_options(corpus, root) if not word.startswith("--name")]
    return [sys.executable, str(ROOT / "cli.py"), "sweep", "--analyze=false", "--name=run", *fit, *more]


@pytest.mark.slow
def test_real_trial_is_bitwise_equal_after_a_kill(corpus_folder: Path, tmp_path: Path) -> None:
    options = ["--over=model.warmdown=0.2", "--trainer.max_steps=300", "--checkpoint.every_n_train_steps=5"]
    straight = subprocess.run(real(corpus_folder, tmp_path / "straight", *options), capture_output=True, text=True)
    assert straight.returncode == 0, straight.stdout + straight.stderr
    killed = tmp_path / "killed"
    process = subprocess.Popen(real(corpus_folder, killed, *options), stdout=subprocess.PIPE, text=True)
    checkpoint = killed / "lightning_logs" / "run" / "version_0" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children:
        child.kill()
    process.communicate()
    again = subprocess.run(real(corpus_folder, killed, *options), capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "warmdown=0.2 (trial 0) was interrupted and is resumed." in again.stdout
    runs = [root / "lightning_logs" / "run" / "version_0" for root in (tmp_path / "straight", killed)]
    for name in ("train/loss", "val/bpb", "val/bpb_all"):
        assert metrics(runs[0], name) == metrics(runs[1], name)
        assert metrics(runs[0], name)
    assert straight.stdout.splitlines()[-1] == again.stdout.splitlines()[-1]  # the best setting


@pytest.mark.slow
def test_two_processes_with_real_training(corpus_folder: Path, tmp_path: Path) -> None:
    options = real(corpus_folder, tmp_path, "--over=model.matrix_lr=0.01,0.02,0.04")
    processes = [
        subprocess.Popen(options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)
    ]
    output = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], output
    runs = sorted(find_runs(tmp_path), key=lambda run: run.version)
    assert [(run.label, run.complete) for run in runs] == [(f"run/version_{n}", True) for n in range(3)]
    assert [run.config["model"]["matrix_lr"] for run in runs] == [0.01, 0.02, 0.04]
    assert all(run.config.get("version") is None for run in runs)  # so that its config starts a new run
