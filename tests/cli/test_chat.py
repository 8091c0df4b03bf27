"""The ``chat`` command: in a pipe, for one question, in a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nanochat.cli import main
from nanochat.cli.errors import EXIT_BROKEN_PIPE
from tests.cli.tools import ROOT
from tests.serving.checkpoints import write_checkpoint, write_run

LONG = 32_768  # tokens of context, for an answer that does not end during a test


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_run(root, "tiny", time=1000)
    write_run(root, "tiny-chat", is_chat=True, time=2000)
    write_checkpoint(root / "long.ckpt", context=LONG)
    return root


def start(*options: str, **streams: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "cli.py"), "chat", *options]
    return subprocess.Popen(command, cwd=ROOT, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams})  # type: ignore[call-overload, no-any-return]


def test_pipe_gets_plain_text(root: Path) -> None:
    chat = start("--root", str(root), "--seed=1", "--max_tokens=20", stdin=subprocess.PIPE)
    out, notes = chat.communicate(b"hello\n", timeout=400)
    assert (chat.returncode, notes) == (0, b"")
    import nanochat

    answer = nanochat.load("tiny", root).chat("hello", seed=1, max_tokens=20)
    assert out.decode() == answer + "\n"


def test_closed_output_pipe_is_no_error(root: Path) -> None:
    reading, writing = os.pipe()
    options = ("--prompt=hello", "--max_tokens=20000", "--seed=1")
    chat = start("--ckpt_path", str(root / "long.ckpt"), *options, stdout=writing)
    os.close(writing)
    assert os.read(reading, 1)
    os.close(reading)
    assert chat.communicate(timeout=400)[1] == b""
    assert chat.returncode == EXIT_BROKEN_PIPE


def run(*options: str) -> int:
    return main(["chat", *options])


def test_prompt_option(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--root", str(root), "--max_tokens=10", "--temperature=0")
    answers = []
    for more in (
        ("--prompt=hello",),
        ("--prompt=null",),
        ("--prompt={a: 1}",),
        ("--prompt=hello", "--system=be brief"),
    ):
        assert run(*options, *more) == 0
        answers.append(capsys.readouterr().out)
    assert len(set(answers)) == 4
    assert run(*options, "--prompt=hello", "--top_k=1", "--temperature=9") == 0
    assert capsys.readouterr().out == answers[0]


def test_base_model_notice_is_on_stderr(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = root / "lightning_logs" / "tiny"
    assert run("--ckpt_path", str(base), "--prompt=hello", "--max_tokens=5") == 0
    out, notes = capsys.readouterr()
    assert out.startswith("hello")
    assert "fit --config configs/tiny.yaml --config configs/chat.yaml" in notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt="], "there is no question in --prompt"),
        (["--prompt=x", "--temperature=-1"], "temperature must be 0 or more, not -1.0"),
        (["--prompt=x", "--max_tokens=0"], "--max_tokens must be at least 1, not 0"),
        (["--prompt=x", "--temprature=1"], "there is no option --temprature, did you mean --temperature?"),
        (["--prompt=x", "--top_k=many"], "--top_k=many is not possible: expected a whole number"),
        (["--prompt=x", "--name=tony"], "there is no run tony below"),
        (["--prompt=x", "--name="], "the name of the model is empty"),
        (["--prompt=x", "--ckpt_path=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["--prompt=x", "--ckpt_path=nowhere.ckpt", "--name=tiny"], "both select a model: give one of them"),
        (["--prompt=x", "--device=abacus"], "there is no device abacus here that torch can use"),
        (["--prompt=" + 300 * "x"], "the last message is too long"),
    ],
)
def test_errors_are_one_line(options: list[str], message: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--root", str(root), *options) == 2
    out, notes = capsys.readouterr()
    assert (out, notes.count("\n")) == ("", 1)
    assert notes.startswith("nanochat: error: ")
    assert message in notes


def test_folder_of_the_same_name_does_not_hide_a_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    assert run("--root", str(root), "--name=tiny", "--prompt=hello", "--max_tokens=3") == 0
    Path("tinier").mkdir()
    capsys.readouterr()
    assert run("--root", str(root), "--name=tinier", "--prompt=hello") == 2
    assert "there is no checkpoint in the folder tinier" in capsys.readouterr().err


def test_missing_model_error_names_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--root", str(tmp_path), "--prompt=x") == 2
    notes = capsys.readouterr().err
    assert "fit --config configs/tiny.yaml`" in notes
    assert notes.count("\n") == 1


def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run() == 2
    assert "there is no question on standard input" in capsys.readouterr().err


# Makes the pseudo-terminal the controlling one, so that Ctrl-C sends SIGINT, then replaces itself with the program.
CONTROLLING_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(1, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class Terminal:
    """``chat`` in a pseudo-terminal of 80 columns."""

    def __init__(self, *options: str, piped: str | None = None, **environment: str) -> None:
        self.screen = ""
        self.descriptor, inner = pty.openpty()
        command = [sys.executable, "-c", CONTROLLING_TERMINAL, str(ROOT / "cli.py"), "chat", *options]
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **environment}
        streams = {"stdin": inner if piped is None else subprocess.PIPE, "stdout": inner, "stderr": inner}
        self.program = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **streams)  # type: ignore[call-overload]
        os.close(inner)
        if piped is not None:
            assert self.program.stdin is not None
            self.program.stdin.write(piped.encode())
            self.program.stdin.close()

    def read(self, expected: str) -> str:
        """Waits for a text in the unread output; returns the output before it, and marks both as read."""
        self._read_while(lambda: expected not in self.screen, repr(expected))
        before, self.screen = self.screen.split(expected, 1)
        return before

    def skip(self, characters: int) -> None:
        """Waits for this many characters of output, and marks them as read."""
        self._read_while(lambda: len(self.screen) <= characters, f"output of {characters} characters")
        self.screen = ""

    def _read_while(self, incomplete: Callable[[], bool], expected: str, seconds: float = 400) -> None:
        end = time.monotonic() + seconds
        while incomplete():
            assert time.monotonic() < end, f"expected {expected}, got {self.screen[-2000:]!r}"
            if select.select([self.descriptor], [], [], 0.1)[0]:
                new = os.read(self.descriptor, 65_536).decode(errors="replace")
                self.screen += new
                if "\x1b[6n" in new:  # a request for the cursor's position
                    self.type("\x1b[1;1R")

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def end(self, seconds: float = 400) -> int:
        """Waits for the program to end; returns its exit status."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.descriptor], [], [], 0.1)[0]:
                try:
                    self.screen += os.read(self.descriptor, 65_536).decode(errors="replace")
                except OSError:  # the program has closed its terminal
                    break
        else:
            self.program.kill()
        os.close(self.descriptor)
        return self.program.wait(60)


def test_ctrl_c_stops_the_answer(root: Path) -> None:
    terminal = Terminal("--ckpt_path", str(root / "long.ckpt"), "--seed=1")
    terminal.read("/help lists")
    terminal.read("\u203a")
    terminal.type("hello\r")
    terminal.skip(3000)  # the echoed question has a few hundred: the answer has begun
    terminal.type("\x03")
    terminal.read("Stopped.")  # the note after a complete answer is another one
    terminal.read("\u203a")
    terminal.type("/stats\r")
    terminal.read("1 answer,")
    terminal.type("\x03")
    terminal.read("Press Ctrl-C again")
    terminal.read("\u203a")
    terminal.type("\x03")
    assert terminal.end() == 0


def test_dumb_terminal_and_no_color(root: Path) -> None:
    terminal = Terminal("--root", str(root), "--max_tokens=5", "--seed=1", TERM="dumb")
    terminal.read("/help lists")
    terminal.type("hello\n")
    terminal.read("Cut off: --max_tokens is reached.")
    terminal.type("/quit\n")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.screen
    terminal = Terminal("--root", str(root), "--prompt=hello", "--max_tokens=5", "--seed=1", NO_COLOR="1")
    assert terminal.end() == 0
    assert "\x1b[3" not in terminal.screen


def test_piped_question_gets_plain_text_in_a_terminal(root: Path) -> None:
    terminal = Terminal("--root", str(root), "--max_tokens=5", "--seed=1", piped="hello\n")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.screen
    assert len(terminal.screen) > 2
