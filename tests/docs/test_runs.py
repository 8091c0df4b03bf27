"""The commands on the pages run as written, in a folder with small tiers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nanochat.cli import main
from tests.docs.pages import DOCS, ROOT, Line, cli_arguments, commands, lines

SHORT = {"val_tokens": 500, "batch_size": 2, "tokens_per_step": 256, "validations": 1, "validate_all": False}
STEPS = {"precision": "32-true", "max_steps": 4, "log_every_n_steps": 1}


def shrink(folder: Path, corpus: str, tasks: dict[str, int]) -> None:
    """Writes the project's configuration files into the folder, with small sizes and few steps."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    for path in (folder / "configs").glob("*.yaml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        model, data = content.get("model", {}), content.get("data", {})
        if "depth" in model:  # a tier
            content["model"] = {**model, "depth": 1, "compile": False}
            content["data"] = {**data, **SHORT, "corpus": corpus, "vocab_size": 300, "context": 64, "row_length": 64}
            content["trainer"] = {**content.get("trainer", {}), **STEPS}
        elif path.stem == "chat":
            content["data"] = {**data, **SHORT, "tasks": tasks, "row_length": 60, "tokens_per_step": 240}
            content["scores"] = {"items": 4}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture(scope="module")
def small_project(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with small tiers; each command finds the files of the commands before it."""
    folder = tmp_path_factory.mktemp("small_project")
    shrink(folder, str(corpus_folder), {"arithmetic": 2, "identity": 1})
    (folder / "prompts.txt").write_text("Return a list of\nThe\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


# As written on a page; in this order, since some need the files of others.
RUNNABLE = [
    "fit --config configs/tiny.yaml",
    "fit --config configs/tiny.yaml --ckpt_path=last",
    "fit --config configs/tiny.yaml --config configs/chat.yaml",
    "validate --config configs/tiny.yaml --ckpt_path=last",
    "validate --config configs/tiny.yaml --config configs/chat.yaml --ckpt_path=last",
    "predict --config configs/tiny.yaml --ckpt_path=last --data.prompts=prompts.txt",
    "chat --prompt 'What does textwrap.dedent do?'",
    "export --ckpt_path=best --name=tiny --out=exports/tiny",
    "import --folder=exports/tiny --out=exports/tiny.ckpt",
    "tokenizer evaluate --name=tiny",
    "analyze tiny --quick",
    "trace --prompt 'What is a list?'",
    "runs",
    "report",
]


@pytest.mark.parametrize("text", RUNNABLE)
def test_command_runs(text: str, small_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(text)
    written = [cli_arguments(command) for line in lines() for command in commands(line)]
    assert words in written, "the command is on no page"
    assert main(words) == 0, capsys.readouterr().err


def test_figures_are_explained(small_project: Path) -> None:
    """After the commands above; test_start_here_runs checks the figures that need the model."""
    found = figures(small_project / "lightning_logs" / "tiny" / "version_0")
    assert {"loss", "bpb", "rates", "parameters"} <= found
    assert found <= explained()


def figures(run: Path) -> set[str]:
    """The names of the figures in a run's folder, except those of other logged curves."""
    found = {path.stem for path in (run / "analysis").glob("*.png")}
    return {name for name in found if not name.startswith(("scores_", "other"))}


def explained() -> set[str]:
    """The figures that docs/analysis.md explains."""
    return set(re.findall(r"^\| `(\w+)` \|", (DOCS / "analysis.md").read_text(encoding="utf-8"), re.MULTILINE))


# --------------------------------------------------------------------------------------------------------- whole pages


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project for `make` and the commands of a page, with this Python as its environment."""
    shrink(tmp_path, "embedded", {"functions": 2, "arithmetic": 2, "identity": 1})
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "cli.py"):
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "scripts").mkdir()
    shutil.copy2(ROOT / "scripts" / "install.py", tmp_path / "scripts")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "tensorboard"):  # not links: Python would search its packages beside them
        target = shlex.quote(str(Path(sys.executable).with_name(name) if name != "python" else sys.executable))
        (programs / name).write_text(f'#!/bin/sh\nexec {target} "$@"\n')
        (programs / name).chmod(0o755)
    (tmp_path / ".venv" / ".ready").touch()
    return tmp_path


def follow(page: Path, project: Path, skip: tuple[str, ...]) -> list[str]:
    """Runs the page's commands as written, in order; returns those that were run.

    Args:
        page: the page with the shell blocks.
        project: working directory.
        skip: prefixes of commands that are not run: those that install, and those that do not terminate.
    """
    environment = {
        **os.environ,
        "PATH": f"{project / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = []
    for line in [line for line in lines() if line.page == page]:
        if line.text.startswith(skip) or line.text.startswith((".venv\\", "py ")):
            continue
        text = line.text.replace("path/to/your-text", "texts")
        result = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=project,
            env=environment,
            input="Who are you?\n",
            capture_output=True,
            text=True,
            timeout=800,
        )
        assert result.returncode == 0, f"{line.id}\n{result.stdout}\n{result.stderr}"
        done.append(line.text)
    return done


NON_TERMINATING = ("tensorboard", ".venv/bin/tensorboard", "python cli.py serve")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(shutil.which("make") is None or sys.platform == "win32", reason="needs make")
def test_start_here_runs(project: Path) -> None:
    done = follow(DOCS / "start-here.md", project, NON_TERMINATING)
    assert done[:2] == ["make tiny", "make chat"]
    assert len(done) >= 5
    assert (project / "lightning_logs" / "tiny-chat" / "version_0" / "summary.json").is_file()
    found = figures(project / "lightning_logs" / "tiny" / "version_0")
    assert {"attention_maps", "spectrum", "loss_by_position"} <= found <= explained()
    assert not (project / "lightning_logs" / "tiny" / "version_1").exists(), "make chat repeated the pretraining"


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(sys.platform == "win32", reason="its commands need a POSIX shell")
def test_quickstart_runs(project: Path) -> None:
    (project / "texts").mkdir()
    (project / "texts" / "mine.txt").write_text("\n\n".join(f"{n} lines of text, and more. " * 20 for n in range(400)))
    # installation, downloads, a minute of timing
    needs_more = ("make setup", "source", "pip", "python cli.py evaluate", "python cli.py plan")
    needs_more += ("python cli.py fit --config configs/tiny.yaml --trainer.accelerator=cuda",)
    done = follow(DOCS / "quickstart.md", project, (*NON_TERMINATING, *needs_more))
    assert len(done) >= 7
    assert sum(line.startswith("python cli.py fit") for line in done) >= 4


def test_skipped_commands_are_on_the_page() -> None:
    page = [line.text for line in lines() if line.page == DOCS / "quickstart.md"]
    assert any(text.startswith(NON_TERMINATING) for text in page)
    assert all(commands(Line(DOCS, text)) for text in page)
