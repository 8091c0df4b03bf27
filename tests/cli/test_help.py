"""``--help`` and ``--print_config``."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nanochat.cli.main import COMMANDS, help_text
from tests.cli.tools import ROOT, command


def test_help_lists_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["nanochat.cli.main"], "program_name", lambda: "python cli.py")
    for name, (what, module) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(what)}$", help_text(), re.MULTILINE)
        assert callable(importlib.import_module(module).run)
    assert max(map(len, help_text().splitlines())) <= 80


def test_lightning_cli_handles_its_subcommands() -> None:
    from nanochat.cli.training import NanochatCLI

    ours = [name for name, command in COMMANDS.items() if command.module == NanochatCLI.__module__]
    assert ours == list(NanochatCLI.subcommands())


def test_help_does_not_import_torch() -> None:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an active environment
    result = command("--help", PATH=programs)
    assert (result.returncode, result.stderr) == (0, "")
    assert "usage: python cli.py COMMAND" in result.stdout
    code = "import sys; from nanochat.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT).returncode == 0


def test_options_are_documented() -> None:
    result = command("fit", "--help")
    assert result.returncode == 0
    for option in ("--model.depth", "--model.matrix_lr", "--data.batch_size", "--data.corpus", "--trainer.max_steps"):
        assert option in result.stdout
    assert re.search(r"--ckpt_path CKPT_PATH\s+The checkpoint to resume: .* auto, which", result.stdout, re.DOTALL)
    for group in ("model", "data", "plan", "samples", "checkpoint"):
        for line in re.findall(rf"^  --{group}\.\w+ .*(?:\n {{6,}}.*)*", result.stdout, re.MULTILINE):
            description = re.sub(r"\s+", " ", line).split(" (type:")[0].split(" ", 3)[-1]
            assert len(description) > 10, line


def test_print_config() -> None:
    result = command("fit", "--config", "configs/tiny.yaml", "--model.depth=6", "--print_config")
    assert result.returncode == 0
    assert re.search(r"^model:\n  depth: 6\n", result.stdout, re.MULTILINE)
