"""What can be typed in the chat besides questions: commands that begin with a slash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nanochat.options import did_you_mean
from nanochat.serving.session import Session, message_text
from nanochat.wording import plural


class Reply(NamedTuple):
    """What a command says, what is to be asked now if anything, and whether the chat is over."""

    text: str = ""
    ask: str | None = None
    quit: bool = False


class Command(NamedTuple):
    """A command's argument, if it takes one, what it does in words, and the function that does it."""

    argument: str
    description: str
    run: Callable[[Session, str], Reply]


def is_command(line: str) -> bool:
    """Whether a line is a command. One that begins with a space is not: so a question may begin with a slash."""
    return line.startswith("/")


def run_command(session: Session, line: str) -> Reply:
    """Does what a line says.

    Raises:
        ValueError: if there is no such command, or it cannot be done, in one line.
    """
    word, _, argument = line[1:].partition(" ")
    name, argument = word.strip().lower(), argument.strip()
    name = ALIASES.get(name, name)
    if name not in COMMANDS:
        begun = " or ".join(f"/{known}" for known in COMMANDS if name and known.startswith(name))
        meant = (
            f", did you mean {begun}?" if begun else did_you_mean(f"/{name}", map("/{}".format, (*COMMANDS, *ALIASES)))
        )
        hint = meant or " (/help lists them; a question may begin with a space)"
        raise ValueError(f"there is no command /{word.strip()}{hint}")
    command = COMMANDS[name]
    if argument and not command.argument:
        raise ValueError(f"/{name} takes no argument")
    return command.run(session, argument)


def _help(session: Session, argument: str) -> Reply:
    rows = [(f"/{name} {command.argument}".rstrip(), command.description) for name, command in COMMANDS.items()]
    width = max(len(left) for left, _ in rows) + 2
    lines = [f"{left:<{width}}{right}" for left, right in rows]
    keys = (("Ctrl-C", "stops an answer"), ("Alt-Enter", "begins a new line"), ("Ctrl-D", "leaves"))
    return Reply("\n".join([*lines, "", *(f"{key:<{width}}{what}" for key, what in keys)]))


def _new(session: Session, argument: str) -> Reply:
    session.clear()
    return Reply("A new conversation.")


def _undo(session: Session, argument: str) -> Reply:
    question = session.take_back()
    if question is None:
        raise ValueError("there is nothing to take back")
    return Reply(f"Taken back: {shortened(question)}")


def _retry(session: Session, argument: str) -> Reply:
    question = session.take_back()
    if question is None:
        raise ValueError("there is nothing to ask again")
    return Reply(f"Again: {shortened(question)}", ask=question)


def _save(session: Session, argument: str) -> Reply:
    if not session.messages:
        raise ValueError("there is nothing to save yet")
    path = _path(argument, "save")
    try:
        session.save(path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error
    return Reply(f"Saved {_messages(session)} in {path}.")


def _load(session: Session, argument: str) -> Reply:
    path = _path(argument, "load")
    session.load(path)
    last = session.messages[-1]
    words = f"{_messages(session)} from {path}. The last: {shortened(message_text(last))}"
    return Reply(words + ("\nIt has no answer yet: /retry asks for one." if last["role"] == "user" else ""))


def _system(session: Session, argument: str) -> Reply:
    if not argument:
        return Reply(session.system or "There is no system message: /system TEXT sets one.")
    if not session.model.is_chat:
        raise ValueError("a base model takes no system message")
    session.system = "" if argument.lower() == "off" else argument
    return Reply("The system message is set." if session.system else "There is no system message any more.")


def _temperature(session: Session, argument: str) -> Reply:
    if argument:
        try:
            number = float(argument)
        except ValueError as error:
            raise ValueError(f"the temperature is a number such as 0.7, not {argument}") from error
        session.settings = replace(session.settings, temperature=number)  # refuses what is out of range
    return Reply(f"The temperature is {session.settings.temperature:g}.")


def _stats(session: Session, argument: str) -> Reply:
    model, turns = session.model, session.turns
    lines = [
        f"model    {model.name}, {model.gpt.num_parameters:,} parameters",
        f"file     {model.path}",
        f"decoder  {'C++' if model.engine.decoder.is_native else 'torch'}",
    ]
    if turns:
        last, seconds = turns[-1], sum(turn.seconds for turn in turns)
        context, speed = last.prompt_tokens + last.tokens, f"{last.speed:,.0f} tokens/s"
        written = plural(sum(turn.tokens for turn in turns), "token")
        lines += [
            f"last     {plural(last.tokens, 'token')} at {speed}, the first after {last.waited:.2f} s",
            f"context  {context:,} of {model.context:,} tokens"
            + (f", without the oldest {plural(session.dropped, 'message')}" if session.dropped else ""),
            f"all      {plural(len(turns), 'answer')}, {written} in {seconds:.1f} s",
        ]
    return Reply("\n".join(lines))


def _quit(session: Session, argument: str) -> Reply:
    return Reply(quit=True)


COMMANDS = {
    "help": Command("", "lists the commands", _help),
    "new": Command("", "begins a new conversation", _new),
    "undo": Command("", "takes back the last question and its answer", _undo),
    "retry": Command("", "asks the last question again", _retry),
    "save": Command("FILE", "writes the conversation as JSON", _save),
    "load": Command("FILE", "goes on with one from a file", _load),
    "system": Command("TEXT", "tells the model something beforehand; off ends that", _system),
    "temperature": Command("X", "0 is always the likeliest answer; higher varies", _temperature),
    "stats": Command("", "how fast the last answer came, and the context", _stats),
    "quit": Command("", "leaves", _quit),
}
ALIASES = {"exit": "quit", "q": "quit", "?": "help", "h": "help"}


def shortened(text: str, length: int = 60) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."


def _messages(session: Session) -> str:
    return plural(len(session.messages), "message")


def _path(argument: str, command: str) -> Path:
    if not argument:
        raise ValueError(f"/{command} needs the name of a file: /{command} chat.json")
    try:
        return Path(argument).expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no user of the name in {argument}") from error
