"""The argument parser: jsonargparse's, with errors in one line."""

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
    """Wraps the text around the options, but leaves paragraphs with indented lines as they are: examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(p if re.search("^ ", p, re.MULTILINE) else fill(p, width, indent) for p in paragraphs)


class OneLineErrorParser(ArgumentParser):
    """A parser whose errors are raised, in one line, with the nearest real option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", ExamplesHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)  # --model.dept must not silently mean --model.depth
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(explain(str(message), list(_options(self))))


def new_parser(command: str, function: Callable[..., Any], what: str = "", **settings: Any) -> OneLineErrorParser:
    """The parser of a command, whose options are the arguments of a function.

    Args:
        command: its name, such as "export".
        function: what does it.
        what: it does, in words; "" for what the list of commands says.
        settings: "skip", arguments that are no options, or are added by the caller; others are the parser's own.
    """
    what, skip = what or COMMANDS[command].description, settings.pop("skip", ())
    description = f"{what[0].upper()}{what[1:]}."
    parser = OneLineErrorParser(prog=f"{program_name()} {command}", description=description, **settings)
    parser.add_function_arguments(function, skip=set(skip))
    return parser


def call(function: Callable[..., Any], arguments: Sequence[str], what: str = "", **flags: str) -> None:
    """Calls the function of a command with the options that the user gave.

    Args:
        function: what does it.
        arguments: of the program: the command's name first.
        what: it does, as for :func:`new_parser`.
        flags: its arguments that may stand alone, each with its help; --overwrite=true works as well.
    """
    parser = new_parser(arguments[0], function, what, skip=flags)
    for name, text in flags.items():  # jsonargparse does not make a flag of a bool
        parser.add_argument(f"--{name}", type=bool, nargs="?", const=True, default=False, help=text)
    function(**parser.parse_args(list(arguments[1:])).as_dict())


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All options of a parser and of its commands."""
    for action in parser._actions:
        yield from action.option_strings
        for subparser in getattr(action, "_name_parser_map", {}).values():
            yield from _options(subparser)


def explain(message: str, options: Sequence[str]) -> str:
    """jsonargparse's message as one line that a user can act on."""
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
    """ "one of 'a', 'b'" or "int or null", out of the types that a message names."""
    choices = [c for group in re.findall(r"Expected a typing\.Literal\[([^\]]*)\]", text) for c in group.split(", ")]
    if choices:
        return f"one of {', '.join(choices)}"
    names = dict.fromkeys(re.findall(r"Expected a <class '(\w+)'>", text))
    words = {"NoneType": "null", "bool": "true or false", "str": "text", "float": "a number", "int": "a whole number"}
    return " or ".join(words.get(name, name) for name in names)


def check_config_files(arguments: Sequence[str]) -> None:
    """Reads each ``--config`` file once, because jsonargparse does not say which of several is not YAML.

    Raises:
        UsageError: naming the file, and the line in it.
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
    """The values of ``--config FILE``, ``--config=FILE`` and ``-c FILE``, in their order."""
    for word, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if word in ("--config", "-c") and after:
            yield after
        elif word.startswith("--config="):
            yield word.removeprefix("--config=")
