"""The ``serve`` command: start, shutdown, and errors."""

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

from nanochat.cli.serve import ORIGIN_PATTERN, _split
from nanochat.training.checkpoint.saved_model import write_model
from tests.cli.tools import ROOT, command
from tests.serving.tools import random_model, running_server


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "lightning_logs" / "babbler" / "version_0" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    model = random_model()
    write_model(path, model.gpt, dict(model.gpt.named_parameters()), model.tokenizer)
    return path


@pytest.fixture
def started(checkpoint: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """The process, the server's URL, and the lines printed up to it."""
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


@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGTERM])
def test_answers_and_stops_immediately(
    started: tuple[subprocess.Popen[str], str, list[str]], stop_signal: signal.Signals
) -> None:
    program, url, lines = started
    assert "babbler: 29,248 parameters" in lines[0]
    assert "This is a base model" in "".join(lines)
    with httpx.stream("POST", f"{url}/v1/completions", json={"prompt": "a", "stream": True}, timeout=60) as answer:
        assert answer.status_code == 200
        program.send_signal(stop_signal)
        with suppress(httpx.RemoteProtocolError):  # on a busy machine the connection may close first
            answer.read()
    status = program.wait(60)
    assert status == (130 if stop_signal == signal.SIGINT else -stop_signal)
    assert program.stderr is not None
    assert program.stderr.read().strip() == ("Stopped." if stop_signal == signal.SIGINT else "")


def test_port_in_use_is_a_one_line_error(checkpoint: Path) -> None:
    with running_server() as other:
        refused = command("serve", f"--ckpt_path={checkpoint}", f"--port={other.port}")
    assert refused.returncode == 2
    expected = f"port {other.port} is in use by another program: try --port={other.port + 1}"
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
        (["--allow_origins=*"], "--allow_origins takes origins such as http://localhost:3000, not *"),
        (["--allow_origins=http://a.b/c"], "such as http://localhost:3000, not http://a.b/c"),
        (["--api_key=\u00e9"], "may only contain printable ASCII characters"),
        (["--api_kye=1"], "there is no option --api_kye, did you mean --api_key?"),
        (["--name=absent", "--port=0"], "there is no run absent"),
    ],
)
def test_errors_are_one_line(
    options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from nanochat.cli import main

    assert main(["serve", *options, f"--root={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("nanochat: error: ")
    assert expected in error
    assert error.count("\n") == 1


def test_origins_are_normalised() -> None:
    assert _split(" http://Localhost:3000/ ,https://a.b,", ORIGIN_PATTERN, "") == [
        "http://localhost:3000",
        "https://a.b",
    ]
