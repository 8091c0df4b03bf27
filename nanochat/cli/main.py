"""The entry point: dispatches to a command, without importing anything slow, and prints errors as one line."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nanochat import limit_openmp_spinning
from nanochat.cli.errors import EXIT_INTERRUPTED, report
from nanochat.cli.lazy_imports import hide_unused_packages
from nanochat.options import did_you_mean
from nanochat.virtualenv import python_command, shell_path, tool_command


class Command(NamedTuple):
    """A command's description, and the module whose ``run(arguments)`` carries it out."""

    description: str
    module: str


# Importing torch and Lightning takes seconds, which `--help` should not. So the commands are listed here, and a
# command's module is imported only when the command is called.
COMMANDS = {
    "fit": Command("train a model", "nanochat.cli.training"),
    "validate": Command("score a checkpoint on all of the held-out text", "nanochat.cli.training"),
    "evaluate": Command("score a model on CORE or on single tasks", "nanochat.cli.evaluate"),
    "report": Command("write a report card of a model, from pretraining to its last stage", "nanochat.cli.report"),
    "analyze": Command("show how a run learned, or how several differ", "nanochat.cli.analyze"),
    "predict": Command("write completions of the prompts in a file", "nanochat.cli.predict"),
    "chat": Command("talk to a model in the terminal", "nanochat.cli.chat"),
    "download": Command("download a corpus from the hub before training", "nanochat.cli.download"),
    "export": Command("write a checkpoint as a folder that transformers loads", "nanochat.cli.exchange"),
    "import": Command("read a folder of that kind into a checkpoint", "nanochat.cli.exchange"),
    "tokenizer": Command("train a vocabulary alone, or measure how well one compresses", "nanochat.cli.tokenizer"),
    "serve": Command("talk to a model in the browser, or by OpenAI's API", "nanochat.cli.serve"),
    "sweep": Command("train with many settings, and show which is best", "nanochat.cli.sweep"),
    "runs": Command("list the trained runs, or remove some", "nanochat.cli.runs"),
    "doctor": Command("check this machine, and print what to do about each problem", "nanochat.cli.doctor"),
    "plan": Command("propose the best model for a number of minutes on this machine", "nanochat.cli.plan"),
    "trace": Command("show a forward pass and a training step in detail", "nanochat.cli.trace"),
}

GENERATING = ("predict", "chat", "serve")  # the commands that generate text, one token at a time

HELP = """\
usage: {program} COMMAND [options]

Train, understand and talk to your own small language model.

commands:
{commands}

examples:
  {program} fit --config configs/tiny.yaml
  {program} fit --config configs/tiny.yaml --model.depth=6
  {program} validate --config configs/tiny.yaml --ckpt_path=last

`{program} COMMAND --help` lists the options of a command.
"""


def program_name() -> str:
    """The command that starts this program in the user's shell, for the commands that it prints."""
    started = Path(sys.argv[0])
    if started.name == "cli.py":
        return f"{python_command()} {shell_path(started.absolute())}"
    if started.parts[-2:] == ("nanochat", "__main__.py"):
        return f"{python_command()} -m nanochat"
    return tool_command("nanochat", "nanochat")


def help_text() -> str:
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:<{width}}{command.description}" for name, command in COMMANDS.items())
    return HELP.format(program=program_name(), commands=commands)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: those after the program's name; None takes them from the command line.

    Returns:
        The exit status: 0, 2 after an error, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character that the terminal cannot encode becomes "?"
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text(), end="")
        return 0
    if arguments[0] not in COMMANDS:
        if arguments[0].startswith("-"):
            return report(f"the command comes first, before {arguments[0]}: one of {', '.join(COMMANDS)}")
        return report(
            f"there is no command {arguments[0]}{did_you_mean(arguments[0], COMMANDS)} "
            f"(commands: {', '.join(COMMANDS)})"
        )
    try:
        Path.cwd()
    except FileNotFoundError:
        return report("the current folder has been deleted: change to another one")
    if arguments[0] in GENERATING:
        limit_openmp_spinning()
    try:
        hide_unused_packages()
        status: int = importlib.import_module(COMMANDS[arguments[0]].module).run(arguments)
        return status
    except ModuleNotFoundError as error:
        if (error.name or "nanochat").split(".")[0] == "nanochat":
            raise
        return report(f"the package {error.name} is not installed: `{program_name()} doctor` says what to do")
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return EXIT_INTERRUPTED
