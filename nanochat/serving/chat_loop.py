"""The chat in the terminal: reads questions and commands, and shows answers while they are generated."""

from __future__ import annotations

import sys
from contextlib import closing, suppress
from typing import Protocol

from nanochat.serving.commands import is_command, run_command
from nanochat.serving.find_model import base_model_notice
from nanochat.serving.keyboard import interruptible, terminal_echo
from nanochat.serving.screen import PlainScreen, RichScreen
from nanochat.serving.session import Session

Screen = PlainScreen | RichScreen
DROPPED = "The oldest {} messages no longer fit into the model's context of {:,} tokens and were left out."


class LineReader(Protocol):
    """A source of input lines, such as a Keyboard."""

    def read(self) -> str: ...


@terminal_echo(False)
def chat_loop(session: Session, keyboard: LineReader, screen: Screen, program: str) -> None:
    """Answers questions until the user quits with /quit, Ctrl-D, or Ctrl-C twice in an empty line.

    The terminal's echo is off, so that keys pressed during an answer do not appear in the middle of it. They are kept
    for the next line, and ``keyboard`` shows them when it reads that line.

    Args:
        session: the conversation.
        keyboard: the source of input lines.
        screen: the output.
        program: the command line's name.
    """
    _greet(session, screen, program)
    interrupted = False
    while True:
        try:
            line = keyboard.read()
            interrupted = False
            if line.strip() and not _respond(session, line, screen):
                return
        except EOFError:
            return
        except KeyboardInterrupt:  # also between the end of an answer and the next line
            if interrupted:
                return
            interrupted = True
            screen.note("Press Ctrl-C again or Ctrl-D to quit.")
        except ValueError as error:
            screen.error(str(error))


def _respond(session: Session, line: str, screen: Screen) -> bool:
    """Runs a command or answers a question; returns whether the chat continues."""
    if is_command(line):
        reply = run_command(session, line)
        if reply.text:
            screen.note(reply.text)
        if reply.ask is None:
            return not reply.quit
        line = reply.ask
    answer(session, line, screen)
    return True


def answer(session: Session, question: str, screen: Screen) -> None:
    """Asks a question and shows the answer while it is generated. Ctrl-C stops the answer.

    Raises:
        ValueError: if the question leaves no room for an answer.
    """
    is_chat = session.model.is_chat
    with interruptible() as stopped, closing(session.ask(question, stopped)) as chunks, suppress(KeyboardInterrupt):
        if session.dropped:
            screen.note(DROPPED.format(session.dropped, session.model.context))
        screen.show(chunks, markdown=is_chat, before="" if is_chat else question)
    stats = session.stats[-1]
    if stats.finished == "cancelled":
        screen.note("Stopped." if stats.tokens else "Stopped before the first token.")
    elif stats.finished == "length":
        screen.note("Cut off: " + ("--max_tokens is reached." if session.max_tokens else "the context is full."))
    elif not stats.tokens:
        screen.note("The answer is empty.")


def answer_once(session: Session, question: str, screen: Screen, program: str) -> None:
    """Answers one question. Ctrl-C ends the program, as usual for programs that only print.

    Raises:
        ValueError: if the question leaves no room for an answer.
    """
    is_chat = session.model.is_chat
    if not is_chat:
        print(base_model_notice(session.model.name, session.model.path, program), file=sys.stderr)
    screen.show(session.ask(question), markdown=is_chat, before="" if is_chat else question)


def _greet(session: Session, screen: Screen, program: str) -> None:
    model = session.model
    lines = [f"{model.name}: {model.gpt.num_parameters:,} parameters, context {model.context:,} tokens"]
    if not model.is_chat:
        lines.append(base_model_notice(model.name, model.path, program))
    screen.note("\n".join([*lines, "/help lists the commands, Ctrl-C stops an answer, Ctrl-D quits."]))
