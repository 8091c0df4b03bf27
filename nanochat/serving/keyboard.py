"""Where questions are typed: a line with a history, that takes pasted lines and completes commands."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import create_output
from prompt_toolkit.styles import Style

from nanochat.cache import cache_root
from nanochat.serving.commands import COMMANDS, is_command

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

STYLE = Style.from_dict({"prompt": "ansicyan bold"})


class Keyboard:
    """Reads what the user types.

    Args:
        options: of prompt_toolkit's session; tests give its input and output.
    """

    def __init__(self, **options: Any) -> None:
        sign = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} " if _shows_unicode() else "> "
        self.session: PromptSession[str] = PromptSession(
            [("class:prompt", sign)],
            style=STYLE,
            history=_history(),
            completer=CommandCompleter(),
            # not for questions: room for the menu would be kept below each
            complete_while_typing=Condition(lambda: is_command(get_app().current_buffer.text)),
            key_bindings=_bindings(),
            prompt_continuation="  ",
            **options,
        )

    def read(self) -> str:
        """A question or a command, of one or several lines.

        Raises:
            EOFError: after Ctrl-D.
            KeyboardInterrupt: after Ctrl-C in an empty line.
        """
        return self.session.prompt()


class PlainKeyboard:
    """The same for terminals on which the cursor cannot be moved."""

    def read(self) -> str:
        """As :meth:`Keyboard.read`, of one line."""
        with echo(True):
            return input("> ")


def new_keyboard() -> Keyboard | PlainKeyboard:
    """What fits the terminal. Where answers go into a file, it is the one that errors are shown on."""
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return PlainKeyboard()
    return Keyboard(output=create_output(always_prefer_tty=True))


class CommandCompleter(Completer):
    """Completes commands and, after /save and /load, the names of files."""

    def __init__(self) -> None:
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if not is_command(text):
            return
        command, space, argument = text[1:].partition(" ")
        if not space:
            for name in COMMANDS:
                if name.startswith(command):
                    yield Completion(name, start_position=-len(command), display_meta=COMMANDS[name].description)
        elif command in ("save", "load"):
            yield from self._files.get_completions(Document(argument), complete_event)


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("<sigint>")
    @bindings.add("c-c", filter=~is_searching)  # there it ends the search
    def _(event: KeyPressEvent) -> None:
        """Empties the line; what is empty is left. As a signal it may come when the line has been taken already."""
        if event.app.future is None or event.app.is_done:
            return
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt(), style="class:aborting")

    @bindings.add(Keys.Vt100MouseEvent)
    def _(event: KeyPressEvent) -> None:
        """No mouse is asked for: this is text with the colours of a terminal, which fails as a place of a click."""

    return bindings


def _history() -> History:
    """What was typed before, in the cache, for this user's eyes only."""
    path = Path(cache_root(), "chat_history")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with open(path, "ab"):  # a cache that is read by others may not be written
            pass
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def _shows_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """While an answer comes, Ctrl-C asks it to end; yields whether it has been asked. A second Ctrl-C insists."""
    asked = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield asked.is_set
        return
    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def echo(shown: bool) -> Iterator[None]:
    """Whether the terminal itself shows what is typed; afterwards it does what it did before."""
    if termios is None or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    within = list(before)
    flag = termios.ECHO  # of the local flags
    within[3] = within[3] | flag if shown else within[3] & ~flag
    termios.tcsetattr(sys.stdin, termios.TCSANOW, within)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
