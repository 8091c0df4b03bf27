"""The commands of the chat in the terminal, such as /retry and /save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nanochat.options import did_you_mean
from nanochat.serving.session import Session, message_text
from nanochat.wording import plural


class Reply(NamedTuple):
    """The result of a command.

    Attributes:
        text: printed to the user.
        ask: a question to ask next, if any.
        quit: whether the chat ends.
    """

    text: str = ""
    ask: str | None = None
    quit: bool = False


class Command(NamedTuple):
    """A command.

    Attributes:
        argument: the name of its argument; "" if it takes none.
        help: its description in /help.
        run: the function that runs it, with the session and the argument.
    """

    argument: str
    help: str
    run: Callable[[Session, str], Reply]


def is_command(line: str) -> bool:
    """Whether a line is a command. A leading space makes a line with a slash a question."""
    return line.startswith("/")


def run_command(session: Session, line: str) -> Reply:
    """Runs the command in a line.

    Raises:
        ValueError: if there is no such command, or it fails, in one line.
    """
    word, _, argument = line[1:].partition(" ")
    name, argument = word.strip().lower(), argument.strip()
    name = ALIASES.get(name, name)
    if name not in COMMANDS:
        completions = " or ".join(f"/{known}" for known in COMMANDS if name and known.startswith(name))
        spelling = did_you_mean(f"/{name}", map("/{}".format, (*COMMANDS, *ALIASES)))
        suggestion = f", did you mean {completions}?" if completions else spelling
        hint = suggestion or " (/help lists the commands; to ask a question that begins with /, type a space first)"
        raise ValueError(f"there is no command /{word.strip()}{hint}")
    command = COMMANDS[name]
    if argument and not command.argument:
        raise ValueError(f"/{name} takes no argument")
    return command.run(session, argument)


def _help(session: Session, argument: str) -> Reply:
    rows = [(f"/{name} {command.argument}".rstrip(), command.help) for name, command in COMMANDS.items()]
    width = max(len(left) for left, _ in rows) + 2
    lines = [f"{left:<{width}}{right}" for left, right in rows]
    keys = (("Ctrl-C", "stop the answer"), ("Alt-Enter", "insert a line break"), ("Ctrl-D", "quit"))
    return Reply("\n".join([*lines, "", *(f"{key:<{width}}{action}" for key, action in keys)]))


def _new(session: Session, argument: str) -> Reply:
    session.clear()
    return Reply("New conversation.")


def _undo(session: Session, argument: str) -> Reply:
    question = session.undo()
    if question is None:
        raise ValueError("there is nothing to undo")
    return Reply(f"Removed: {shortened(question)}")


def _retry(session: Session, argument: str) -> Reply:
    question = session.undo()
    if question is None:
        raise ValueError("there is nothing to retry")
    return Reply(f"Retry: {shortened(question)}", ask=question)


def _save(session: Session, argument: str) -> Reply:
    if not session.messages:
        raise ValueError("there is nothing to save yet")
    path = _path(argument, "save")
    try:
        session.save(path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error
    return Reply(f"Saved {_message_count(session)} to {path}.")


def _load(session: Session, argument: str) -> Reply:
    path = _path(argument, "load")
    session.load(path)
    last = session.messages[-1]
    text = f"Loaded {_message_count(session)} from {path}. The last one: {shortened(message_text(last))}"
    return Reply(text + ("\nIt is not answered yet: /retry asks it." if last["role"] == "user" else ""))


def _system(session: Session, argument: str) -> Reply:
    if not argument:
        return Reply(session.system or "There is no system message: /system TEXT sets one.")
    if not session.model.is_chat:
        raise ValueError("a base model takes no system message")
    session.system = "" if argument.lower() == "off" else argument
    return Reply("The system message is set." if session.system else "The system message is removed.")


def _temperature(session: Session, argument: str) -> Reply:
    if argument:
        try:
            number = float(argument)
        except ValueError as error:
            raise ValueError(f"the temperature must be a number such as 0.7, not {argument}") from error
        session.settings = replace(session.settings, temperature=number)  # raises if it is out of range
    return Reply(f"The temperature is {session.settings.temperature:g}.")


def _stats(session: Session, argument: str) -> Reply:
    model, stats = session.model, session.stats
    lines = [
        f"model    {model.name}, {model.gpt.num_parameters:,} parameters",
        f"file     {model.path}",
        f"decoder  {'C++' if model.engine.decoder.is_native else 'torch'}",
    ]
    if stats:
        last = stats[-1]
        context = last.prompt_tokens + last.tokens
        dropped = f", without the oldest {plural(session.dropped, 'message')}" if session.dropped else ""
        written, seconds = sum(answer.tokens for answer in stats), sum(answer.seconds for answer in stats)
        lines += [
            f"last     {plural(last.tokens, 'token')} at {last.speed:,.0f} tokens/s, "
            f"first token after {last.first_token_seconds:.2f} s",
            f"context  {context:,} of {model.context:,} tokens{dropped}",
            f"all      {plural(len(stats), 'answer')}, {plural(written, 'token')} in {seconds:.1f} s",
        ]
    return Reply("\n".join(lines))


def _quit(session: Session, argument: str) -> Reply:
    return Reply(quit=True)


COMMANDS = {
    "help": Command("", "list the commands", _help),
    "new": Command("", "start a new conversation", _new),
    "undo": Command("", "remove the last question and its answer", _undo),
    "retry": Command("", "ask the last question again", _retry),
    "save": Command("FILE", "save the conversation as JSON", _save),
    "load": Command("FILE", "continue a saved conversation", _load),
    "system": Command("TEXT", "set the system message; /system off removes it", _system),
    "temperature": Command("X", "0 for the most likely answer, higher for variety", _temperature),
    "stats": Command("", "show the speed of the answers and the use of the context", _stats),
    "quit": Command("", "quit", _quit),
}
ALIASES = {"exit": "quit", "q": "quit", "?": "help", "h": "help"}


def shortened(text: str, length: int = 60) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."


def _message_count(session: Session) -> str:
    return plural(len(session.messages), "message")


def _path(argument: str, command: str) -> Path:
    if not argument:
        raise ValueError(f"/{command} needs a file name: /{command} chat.json")
    try:
        return Path(argument).expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no home folder for the user in {argument}") from error
