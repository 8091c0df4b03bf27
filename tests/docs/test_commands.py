"""The commands in the README, in docs/ and in the notebook: each is understood by the real parser."""

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
from tests.docs.pages import ROOT, Line, commands, inline_code, lines, our_commands, pages, text_of

# Options of SLURM's commands and of those before this project, which the pages speak of; and commands of others.
FOREIGN = {
    *("--nodes", "--ntasks-per-node", "--gpus-per-node", "--gpus-per-task", "--cpus-per-task", "--signal", "--ntasks"),
    "--standalone",
    *("--depth", "--width", "--vocab_size", "--device_batch_size", "--num_iterations", "--matrix_lr"),
}
OTHERS = ("python benchmarks/", "torchrun ", "pip ", "sbatch ", "scancel ")


class Understood(BaseException):  # no Exception: nothing but the tests takes it for an error
    """Raised in place of what a command would do, once its arguments are understood."""

    def __init__(self, parser: argparse.ArgumentParser, settings: Any = None) -> None:
        self.parser, self.settings = parser, settings


# The commands' own; and what a command takes that must do without any package.
PARSERS = (OneLineErrorParser, argparse.ArgumentParser)


def stopping(parse: Callable[..., Any], outer: list[argparse.ArgumentParser]) -> Callable[..., Any]:
    """A ``parse_args`` after which nothing happens any more; ``outer`` are the parsers at work."""

    def parse_and_stop(self: argparse.ArgumentParser, *arguments: Any, **options: Any) -> Any:
        outer.append(self)
        try:
            settings = parse(self, *arguments, **options)
        finally:
            outer.pop()
        if outer:  # a command within it
            return settings
        raise Understood(self, settings)

    return parse_and_stop


@pytest.fixture
def only_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands end where they have understood their arguments."""
    outer: list[argparse.ArgumentParser] = []
    for kind in PARSERS:
        monkeypatch.setattr(kind, "parse_args", stopping(kind.parse_args, outer))
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("only_parsing")
@pytest.mark.parametrize("line", our_commands(), ids=lambda line: line.id)
def test_the_command_can_be_parsed(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line.text)
    if words[-1] == "--help" or (len(words) == 1 and f"`python cli.py {words[0]}`" in text_of(line.page)):
        assert words[0] in {*COMMANDS, "--help"}  # named, not given
        return
    try:
        status = main(words)
    except Understood as end:
        if words[0] == "fit":
            check_sizes(end.settings.fit)
        return
    pytest.fail(f"{line.page.name}: {line.text}\nends with {status}: {capsys.readouterr().err}")


def check_sizes(settings: Any) -> None:
    """What a parser does not see: sizes that do not fit each other."""
    model, data = settings.model, dict(settings.data)
    if "depth" in model:
        GPTConfig.from_hyperparameters({"vocab_size": 512, "context": 512, **model})
    if "tokens_per_step" in data:
        if "your-text" in str(data.get("corpus")):
            data["corpus"] = "embedded"
        devices = settings.trainer.devices if isinstance(settings.trainer.devices, int) else 1
        data_class(settings.stage)(**data).micro_steps(devices * settings.trainer.num_nodes)  # raises


@pytest.mark.usefixtures("only_parsing")
def test_a_command_that_does_not_exist_would_be_found(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["fit", "--model.dept=3"], ["chat", "--promt=Hello"], ["dance"], ["fit", "--config=none.yaml"]):
        assert main(words) == 2
    with pytest.raises(Understood) as end:
        main(["fit", "--config", "configs/tiny.yaml", "--data.row_length=512"])
    with pytest.raises(ValueError, match="does not divide"):
        check_sizes(end.value.settings.fit)


def test_commands_are_found_wherever_they_are_written() -> None:
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
    documented = {shlex.split(line.text)[0] for line in our_commands()}
    assert set(COMMANDS) <= documented, "no page shows how to use it"
    assert documented <= {*COMMANDS, "--help"}
    assert len(our_commands()) > 60


def test_targets_of_make_exist() -> None:
    makefile = text_of(ROOT / "Makefile")
    targets = [words[1] for line in lines() for words in commands(line) if words[0] == "make"]
    targets += [code.split()[1] for page in pages() for code in inline_code(page) if re.fullmatch(r"make [\w-]+", code)]
    assert "tiny" in targets
    for target in targets:
        assert re.search(rf"^[\w -]*\b{target}\b[\w -]*:", makefile, re.MULTILINE), target


def test_configuration_files_in_commands_exist() -> None:
    for line in lines():
        for words in commands(line):
            for word in words:
                if word.endswith((".yaml", ".sh")) and "mine" not in word:
                    assert (ROOT / word.split("=")[-1]).is_file(), line.id


def test_options_in_the_text_are_those_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {*FOREIGN, "--help"} | known_options(monkeypatch)
    assert {"--model.depth", "--prompt", "--port"} <= known
    for page in pages():
        for code in inline_code(page):
            if code.startswith(OTHERS):
                continue
            for option in re.findall(r"(?<![\w-])--[\w.-]*\w", code):
                assert option in known, f"{page.name}: `{code}`"


def known_options(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The options of all commands and stages."""
    calls = [[name] for name in COMMANDS if name != "tokenizer"]
    calls += [["tokenizer", "train"], ["tokenizer", "evaluate"]]
    calls += [["fit", f"--stage={stage}"] for stage in STAGES]

    def stop(self: argparse.ArgumentParser, *others: Any, **options: Any) -> None:
        raise Understood(self)

    for kind in PARSERS:
        monkeypatch.setattr(kind, "parse_args", stop)
    known: set[str] = set()
    for words in calls:
        with pytest.raises(Understood) as end:
            main(words)
        known |= options_of(end.value.parser)
    return known


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a parser and of its commands."""
    found: set[str] = set()
    for action in parser._actions:
        found |= {*action.option_strings}
        for subparser in getattr(action, "_name_parser_map", {}).values():
            found |= options_of(subparser)
    return found
