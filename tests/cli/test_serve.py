"""``serve`` as a user starts and ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2 as httpx
import pytest

from nanochat.cli.serve import ORIGIN, _split
from nanochat.training.checkpoint.saved_model import write_model
from tests.cli.tools import ROOT, command
from tests.serving.tools import random_model, running


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "lightning_logs" / "babbler" / "version_0" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    model = random_model()
    write_model(path, model.gpt, dict(model.gpt.named_parameters()), model.tokenizer)
    return path


@pytest.fixture
def started(checkpoint: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The program, its address, and the lines before it."""
    root = checkpoint.parents[4]
    options = ["serve", "--port=0", f"--root={root}", "--name=babbler"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as program:
        lines: list[str] = []
        assert program.stdout is not None
        for line in program.stdout:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield program, found[0], lines
                break
        program.kill()
    assert lines


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_ends_at_once(
    started: tuple[subprocess.Popen[str], str, list[str]], ending: signal.Signals
) -> None:
    program, url, lines = started
    assert "babbler: 29,248 parameters" in lines[0]
    assert "This is a base model" in "".join(lines)
    with httpx.stream("POST", f"{url}/v1/completions", json={"prompt": "a", "stream": True}, timeout=60) as answer:
        assert answer.status_code == 200
        program.send_signal(ending)
        with suppress(httpx.RemoteProtocolError):  # where the machine is busy, the answer may be cut off without a word
            answer.read()
    status = program.wait(60)
    assert status == (130 if ending == signal.SIGINT else -ending)
    assert program.stderr is not None
    assert program.stderr.read().strip() == ("Stopped." if ending == signal.SIGINT else "")


def test_a_port_that_is_taken_is_told_in_one_line(checkpoint: Path) -> None:
    with running() as other:
        refused = command("serve", f"--ckpt_path={checkpoint}", f"--port={other.port}")
    assert refused.returncode == 2
    expected = f"port {other.port} is in use by another program: --port={other.port + 1} takes another"
    assert refused.stderr == f"nanochat: error: {expected}\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--port=99999"], "--port must be from 0 to 65535"),
        (["--host=no.such.name.invalid"], "there is no address no.such.name.invalid"),
        (["--host=203.0.113.7"], "is no address of this machine"),
        (["--ckpt_path=a", "--name=b"], "give one of them"),
        (["--at_once=0"], "--at_once must be at least 1"),
        (["--allow_hosts=box.lan:8000"], "--allow_hosts takes names without a port, such as box.lan, not box.lan:8000"),
        (["--allow_origins=*"], "--allow_origins takes addresses such as http://localhost:3000, not *"),
        (["--allow_origins=http://a.b/c"], "such as http://localhost:3000, not http://a.b/c"),
        (["--api_key=\u00e9"], "must be letters, digits and signs of ASCII"),
        (["--api_kye=1"], "there is no option --api_kye, did you mean --api_key?"),
        (["--name=nobody", "--port=0"], "there is no run nobody"),
    ],
)
def test_what_is_not_possible_is_told_in_one_line(
    options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nanochat.cli import main

    assert main(["serve", *options, f"--root={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("nanochat: error: ")
    assert expected in error
    assert error.count("\n") == 1


def test_origins_are_taken_as_browsers_write_them() -> None:
    assert _split(" http://Localhost:3000/ ,https://a.b,", ORIGIN, "") == ["http://localhost:3000", "https://a.b"]
