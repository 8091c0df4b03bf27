"""The chat in the terminal: a question, an answer that comes while one reads it, and the next question."""

from __future__ import annotations

import sys
from contextlib import closing, suppress
from typing import Protocol

from nanochat.serving.commands import is_command, run_command
from nanochat.serving.find_model import base_model_notice
from nanochat.serving.keyboard import echo, interruptible
from nanochat.serving.screen import PlainScreen, RichScreen
from nanochat.serving.session import Session

Screen = PlainScreen | RichScreen
DROPPED = "The oldest {} messages no longer fit into the model's {:,} tokens: it has answered without them."


class LineReader(Protocol):
    """Where lines come from, as from a Keyboard."""

    def read(self) -> str: ...


@echo(False)
def chat_loop(session: Session, keyboard: LineReader, screen: Screen, program: str) -> None:
    """Answers until the user leaves: by /quit, Ctrl-D, or Ctrl-C twice in an empty line.

    What is typed while an answer is prepared or comes is not shown in the middle of it, but kept for the next line:
    whoever reads a line shows it.

    Args:
        session: the conversation.
        keyboard: where the user types.
        screen: where it is shown.
        program: how the user calls this program.
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
        except KeyboardInterrupt:  # also one that comes between an answer's end and the next line
            if interrupted:
                return
            interrupted = True
            screen.note("Ctrl-C once more leaves, as Ctrl-D does.")
        except ValueError as error:
            screen.error(str(error))


def _respond(session: Session, line: str, screen: Screen) -> bool:
    """Does a command or answers a question; returns whether the chat goes on."""
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
    """Asks, and shows the answer while it comes; Ctrl-C ends it where it is.

    Raises:
        ValueError: if the question leaves no room for an answer.
    """
    is_chat = session.model.is_chat
    with interruptible() as stopped, closing(session.ask(question, stopped)) as pieces, suppress(KeyboardInterrupt):
        if session.dropped:
            screen.note(DROPPED.format(session.dropped, session.model.context))
        screen.show(pieces, markdown=is_chat, before="" if is_chat else question)
    turn = session.turns[-1]
    if turn.finished == "cancelled":
        screen.note("Stopped." if turn.tokens else "Stopped, before it had said anything.")
    elif turn.finished == "length":
        screen.note("Cut off: " + ("--max_tokens is reached." if session.max_tokens else "the context is full."))
    elif not turn.tokens:
        screen.note("It has nothing to say.")


def answer_once(session: Session, question: str, screen: Screen, program: str) -> None:
    """Answers one question; Ctrl-C ends the program, as is usual for those that only print.

    Raises:
        ValueError: if the question leaves no room for an answer.
    """
    if not session.model.is_chat:
        print(base_model_notice(session.model.name, session.model.path, program), file=sys.stderr)
    screen.show(session.ask(question), markdown=session.model.is_chat, before="" if session.model.is_chat else question)


def _greet(session: Session, screen: Screen, program: str) -> None:
    model = session.model
    lines = [f"{model.name}: {model.gpt.num_parameters:,} parameters, context {model.context:,} tokens"]
    if not model.is_chat:
        lines.append(base_model_notice(model.name, model.path, program))
    screen.note("\n".join([*lines, "/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves."]))
