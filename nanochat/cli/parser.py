"""jsonargparse's argument parser, with errors in one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from nanochat.cli.errors import UsageError
from nanochat.cli.main import COMMANDS, program_name
from nanochat.options import did_you_mean


class ExamplesHelpFormatter(DefaultHelpFormatter):
    """Wraps paragraphs, except those with indented lines, which are examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(p if re.search("^ ", p, re.MULTILINE) else fill(p, width, indent) for p in paragraphs)


class OneLineErrorParser(ArgumentParser):
    """A parser that raises its errors as a UsageError of one line, which suggests the nearest option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", ExamplesHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)  # --model.dept must not silently mean --model.depth
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(explain(str(message), list(_options(self))))


def new_parser(
    command: str, function: Callable[..., Any], description: str = "", **settings: Any
) -> OneLineErrorParser:
    """Creates the parser of a command, whose options are the arguments of a function.

    Args:
        command: its name, such as "export".
        function: that carries it out.
        description: for --help; "" takes the one in the list of commands.
        settings: "skip" names arguments that are no options or that the caller adds; all others go to the parser.
    """
    description, skip = description or COMMANDS[command].description, settings.pop("skip", ())
    description = f"{description[0].upper()}{description[1:]}."
    parser = OneLineErrorParser(prog=f"{program_name()} {command}", description=description, **settings)
    parser.add_function_arguments(function, skip=set(skip))
    return parser


def call(function: Callable[..., Any], arguments: Sequence[str], description: str = "", **flags: str) -> None:
    """Parses the options of a command and calls its function with them.

    Args:
        function: that carries the command out.
        arguments: of the program, the command's name first.
        description: for --help, as in :func:`new_parser`.
        flags: boolean arguments that need no value, each with its help; --overwrite=true works as well.
    """
    parser = new_parser(arguments[0], function, description, skip=flags)
    for name, text in flags.items():  # jsonargparse wants a value for a bool
        parser.add_argument(f"--{name}", type=bool, nargs="?", const=True, default=False, help=text)
    function(**parser.parse_args(list(arguments[1:])).as_dict())


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All options of a parser and of its commands."""
    for action in parser._actions:
        yield from action.option_strings
        for subparser in getattr(action, "_name_parser_map", {}).values():
            yield from _options(subparser)


def explain(message: str, options: Sequence[str]) -> str:
    """Turns jsonargparse's message into one line that a user can act on."""
    message = " ".join(message.split())
    if match := re.search(r"nrecognized arguments: (\S+)", message):
        option = match[1].split("=")[0]
        if not option.startswith("-"):
            return f"{option} belongs to no option: they are written --name=value (all of them: --help)"
        return f"there is no option {option}{did_you_mean(option, options)} (all of them: --help)"
    if match := re.search(r"arguments are required: (.*)", message):
        return f"{' and '.join(f'--{name}' for name in match[1].split(', '))} must be given (what it takes: --help)"
    if match := re.match(r"argument (\S+): (?:expected .*argument|(ignored) explicit argument)", message):
        return f"{match[1].split('/')[-1]} {'takes no value' if match[2] else 'needs a value'} (--help says more)"
    if match := re.search(r"does not accept option '([\w.]+)'", message):
        return f"there is no setting {match[1]}{did_you_mean('--' + match[1], options)} (all of them: --help)"
    if match := re.match(r"Parser key \"([\w.]+)\": (.*)", message):
        key, rest = match.groups()
        given = re.search(r"(?:Got|Given) value: (.*)$", rest)
        expected = _expected(rest)
        if given and expected:
            return f"--{key}={given[1]} is not possible: expected {expected}"
    return message


def _expected(text: str) -> str:
    """The types that a message expects, such as "one of 'a', 'b'" or "a whole number or null"."""
    choices = [c for group in re.findall(r"Expected a typing\.Literal\[([^\]]*)\]", text) for c in group.split(", ")]
    if choices:
        return f"one of {', '.join(choices)}"
    names = dict.fromkeys(re.findall(r"Expected a <class '(\w+)'>", text))
    words = {"NoneType": "null", "bool": "true or false", "str": "text", "float": "a number", "int": "a whole number"}
    return " or ".join(words.get(name, name) for name in names)


def check_config_files(arguments: Sequence[str]) -> None:
    """Parses each ``--config`` file alone, since jsonargparse does not name the one that is not YAML.

    Raises:
        UsageError: if a file is missing or not YAML; it names the file and the line.
    """
    for path in config_files(arguments):
        try:
            yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UsageError(f"there is no configuration file {path}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the configuration file {path}: {error}") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark is not None else ""
            problem = getattr(error, "problem", None) or "it cannot be parsed"
            raise UsageError(f"the configuration file {path} is not YAML{line}: {problem}") from error


def config_files(arguments: Sequence[str]) -> Iterator[str]:
    """The values of ``--config FILE``, ``--config=FILE`` and ``-c FILE``, in order."""
    for word, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if word in ("--config", "-c") and after:
            yield after
        elif word.startswith("--config="):
            yield word.removeprefix("--config=")
