"""The command line's own parser accepts every command in the README, in docs/ and in the notebook."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from nanochat.cli import main
from nanochat.cli.main import COMMANDS
from nanochat.cli.parser import OneLineErrorParser
from nanochat.cli.stages import data_class
from nanochat.model import GPTConfig
from nanochat.runs import STAGES
from tests.docs.pages import ROOT, Line, cli_commands, commands, inline_code, lines, pages, text_of

# Options of SLURM, of torchrun and of the earlier commands that the pages mention.
FOREIGN = {
    *("--nodes", "--ntasks-per-node", "--gpus-per-node", "--gpus-per-task", "--cpus-per-task", "--signal", "--ntasks"),
    "--standalone",
    *("--depth", "--width", "--vocab_size", "--device_batch_size", "--num_iterations", "--matrix_lr"),
}
OTHER_PROGRAMS = ("python benchmarks/", "torchrun ", "pip ", "sbatch ", "scancel ")


class Parsed(BaseException):  # not an Exception, so that the command line does not report it as an error
    """Raised instead of running a command, after its arguments are parsed."""

    def __init__(self, parser: argparse.ArgumentParser, settings: Any = None) -> None:
        self.parser, self.settings = parser, settings


# The second is for commands that must work without any package.
PARSERS = (OneLineErrorParser, argparse.ArgumentParser)


def parse_then_stop(parse: Callable[..., Any], outer: list[argparse.ArgumentParser]) -> Callable[..., Any]:
    """Wraps ``parse_args`` to raise ``Parsed`` after parsing; ``outer`` is the stack of active parsers."""

    def parse_and_stop(self: argparse.ArgumentParser, *arguments: Any, **options: Any) -> Any:
        outer.append(self)
        try:
            settings = parse(self, *arguments, **options)
        finally:
            outer.pop()
        if outer:  # a nested parser
            return settings
        raise Parsed(self, settings)

    return parse_and_stop


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands stop after parsing their arguments."""
    outer: list[argparse.ArgumentParser] = []
    for kind in PARSERS:
        monkeypatch.setattr(kind, "parse_args", parse_then_stop(kind.parse_args, outer))
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize("line", cli_commands(), ids=lambda line: line.id)
def test_command_parses(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line.text)
    if words[-1] == "--help" or (len(words) == 1 and f"`python cli.py {words[0]}`" in text_of(line.page)):
        assert words[0] in {*COMMANDS, "--help"}  # mentioned, not called
        return
    try:
        status = main(words)
    except Parsed as end:
        if words[0] == "fit":
            check_sizes(end.settings.fit)
        return
    pytest.fail(f"{line.page.name}: {line.text}\nends with {status}: {capsys.readouterr().err}")


def check_sizes(settings: Any) -> None:
    """Checks sizes that the parser does not check together."""
    model, data = settings.model, dict(settings.data)
    if "depth" in model:
        GPTConfig.from_hyperparameters({"vocab_size": 512, "context": 512, **model})
    if "tokens_per_step" in data:
        if "your-text" in str(data.get("corpus")):
            data["corpus"] = "embedded"
        devices = settings.trainer.devices if isinstance(settings.trainer.devices, int) else 1
        data_class(settings.stage)(**data).micro_steps(devices * settings.trainer.num_nodes)  # raises


@pytest.mark.usefixtures("parse_only")
def test_invalid_commands_are_detected(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["fit", "--model.dept=3"], ["chat", "--promt=Hello"], ["dance"], ["fit", "--config=none.yaml"]):
        assert main(words) == 2
    with pytest.raises(Parsed) as end:
        main(["fit", "--config", "configs/tiny.yaml", "--data.row_length=512"])
    with pytest.raises(ValueError, match="does not divide"):
        check_sizes(end.value.settings.fit)


def test_commands_are_extracted() -> None:
    page = ROOT / "README.md"
    assert commands(Line(page, "for n in 4 6; do python cli.py fit --model.depth=$n; done  # loop")) == [
        ["python", "cli.py", "fit", "--model.depth=4"],
        ["python", "cli.py", "fit", "--model.depth=6"],
    ]
    assert commands(Line(page, 'echo "a; b" | python cli.py chat  # and so on')) == [
        ["echo", "a; b"],
        ["python", "cli.py", "chat"],
    ]
    assert commands(Line(page, r".venv\Scripts\python cli.py fit --config configs\tiny.yaml")) == [
        ["python", "cli.py", "fit", "--config", "configs/tiny.yaml"]
    ]


def test_every_command_is_documented() -> None:
    documented = {shlex.split(line.text)[0] for line in cli_commands()}
    assert set(COMMANDS) <= documented, "a command is on no page"
    assert documented <= {*COMMANDS, "--help"}
    assert len(cli_commands()) > 60


def test_make_targets_exist() -> None:
    makefile = text_of(ROOT / "Makefile")
    targets = [words[1] for line in lines() for words in commands(line) if words[0] == "make"]
    targets += [code.split()[1] for page in pages() for code in inline_code(page) if re.fullmatch(r"make [\w-]+", code)]
    assert "tiny" in targets
    for target in targets:
        assert re.search(rf"^[\w -]*\b{target}\b[\w -]*:", makefile, re.MULTILINE), target


def test_configuration_files_exist() -> None:
    for line in lines():
        for words in commands(line):
            for word in words:
                if word.endswith((".yaml", ".sh")) and "mine" not in word:
                    assert (ROOT / word.split("=")[-1]).is_file(), line.id


def test_named_options_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {*FOREIGN, "--help"} | known_options(monkeypatch)
    assert {"--model.depth", "--prompt", "--port"} <= known
    for page in pages():
        for code in inline_code(page):
            if code.startswith(OTHER_PROGRAMS):
                continue
            for option in re.findall(r"(?<![\w-])--[\w.-]*\w", code):
                assert option in known, f"{page.name}: `{code}`"


def known_options(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The options of all commands and stages."""
    calls = [[name] for name in COMMANDS if name != "tokenizer"]
    calls += [["tokenizer", "train"], ["tokenizer", "evaluate"]]
    calls += [["fit", f"--stage={stage}"] for stage in STAGES]

    def stop(self: argparse.ArgumentParser, *others: Any, **options: Any) -> None:
        raise Parsed(self)

    for kind in PARSERS:
        monkeypatch.setattr(kind, "parse_args", stop)
    known: set[str] = set()
    for words in calls:
        with pytest.raises(Parsed) as end:
            main(words)
        known |= options_of(end.value.parser)
    return known


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a parser and of its subcommands."""
    found: set[str] = set()
    for action in parser._actions:
        found |= {*action.option_strings}
        for subparser in getattr(action, "_name_parser_map", {}).values():
            found |= options_of(subparser)
    return found
