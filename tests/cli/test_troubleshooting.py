"""Errors name their section of docs/troubleshooting.md, and the page explains them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from nanochat.cli.errors import report
from nanochat.cli.troubleshooting import PAGE, SECTIONS, section
from tests.cli.tools import ROOT

TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
# Messages of running commands, and answers to other programs: none of them ends a command.
NO_ERRORS = ("A step takes", "It could not be compiled", "This run is finished", "Compiling the model", "as many texts")


def quoted() -> list[tuple[str, str]]:
    """Each message quoted on the page, with its section."""
    found = []
    for block in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        name, _, rest = block.partition("\n")
        found += [(name.strip().lower(), message) for message in re.findall(r'^\| "([^"]+)"', rest, re.MULTILINE)]
    return found


def test_sections_exist() -> None:
    headings = {heading.lower() for heading in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)}
    assert {name for name, _ in SECTIONS} <= headings
    assert len(quoted()) > 40


@pytest.mark.parametrize(("name", "message"), [(n, m) for n, m in quoted() if n not in ("options", "installing")])
def test_quoted_messages_link_to_their_section(name: str, message: str) -> None:
    if not message.startswith(NO_ERRORS):
        assert section(message) == name


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("this run needs about 9.1 GB of memory and 3.2 GB are available: lower --data.batch_size", "memory"),
        (
            "there is no last checkpoint below lightning_logs/tiny: train first, or give --ckpt_path a file",
            "checkpoints",
        ),
        ("there is no file or folder nowhere/at/all: a corpus is a path", "corpus"),
        ("last.ckpt is not a whole checkpoint: ...; the one before it is whole: --ckpt_path=previous.ckpt", None),
        ("--model.warmdown must be from 0 to 1, not 7", None),
        ("there is no option --model.dept, did you mean --model.depth? (all of them: --help)", None),
        ("there is no configuration file missing.yaml", None),
    ],
)
def test_printed_link(message: str, expected: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert section(message) == expected
    report(message)
    line = capsys.readouterr().err
    assert line == f"nanochat: error: {message}" + (f" (see {PAGE}#{expected})" if expected else "") + "\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_closed_pipe_is_no_error() -> None:
    program = (
        "import sys; from nanochat.cli.errors import report_errors\n"
        "sys.exit(report_errors(lambda: [print('x' * 1000, flush=True) for _ in range(1000)]))"
    )
    done = subprocess.run(
        ["sh", "-c", f'{{ "{sys.executable}" -c "$0"; echo $? >&2; }} | head -1', program],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert done.stderr.strip() == "141"
