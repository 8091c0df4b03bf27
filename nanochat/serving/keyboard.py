"""Reads the user's input in the terminal: line editing, history, multi-line paste and command completion."""

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
    """Reads lines with prompt_toolkit.

    Args:
        options: arguments of PromptSession; tests pass its input and output.
    """

    def __init__(self, **options: Any) -> None:
        symbol = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} " if _shows_unicode() else "> "
        self.session: PromptSession[str] = PromptSession(
            [("class:prompt", symbol)],
            style=STYLE,
            history=_history(),
            completer=CommandCompleter(),
            # not for questions: prompt_toolkit would reserve space for the menu below each
            complete_while_typing=Condition(lambda: is_command(get_app().current_buffer.text)),
            key_bindings=_bindings(),
            prompt_continuation="  ",
            **options,
        )

    def read(self) -> str:
        """Reads a question or a command, of one or several lines.

        Raises:
            EOFError: after Ctrl-D.
            KeyboardInterrupt: after Ctrl-C in an empty line.
        """
        return self.session.prompt()


class PlainKeyboard:
    """Reads lines with input(), for terminals that cannot move the cursor."""

    def read(self) -> str:
        """Reads one line; raises as :meth:`Keyboard.read`."""
        with terminal_echo(True):
            return input("> ")


def new_keyboard() -> Keyboard | PlainKeyboard:
    """The keyboard that fits the terminal. If stdout is redirected to a file, the prompt is shown on stderr."""
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return PlainKeyboard()
    return Keyboard(output=create_output(always_prefer_tty=True))


class CommandCompleter(Completer):
    """Completes commands, and file names after /save and /load."""

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
                    yield Completion(name, start_position=-len(command), display_meta=COMMANDS[name].help)
        elif command in ("save", "load"):
            yield from self._files.get_completions(Document(argument), complete_event)


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("<sigint>")
    @bindings.add("c-c", filter=~is_searching)  # in a history search, Ctrl-C ends the search
    def _(event: KeyPressEvent) -> None:
        """Clears the line, or raises KeyboardInterrupt if it is empty."""
        if event.app.future is None or event.app.is_done:  # SIGINT after the line has been accepted
            return
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt(), style="class:aborting")

    @bindings.add(Keys.Vt100MouseEvent)
    def _(event: KeyPressEvent) -> None:
        """Ignores the key. Mouse support is off: this is pasted text with escape sequences of colours, and
        prompt_toolkit's own handler would fail to parse it as a position."""

    return bindings


def _history() -> History:
    """The input history, in a file of the cache that only this user can read."""
    path = Path(cache_root(), "chat_history")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with open(path, "ab"):  # a shared cache may be read-only
            pass
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def _shows_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Makes the first Ctrl-C set a flag, and a second one raise KeyboardInterrupt.

    Yields:
        A function that returns the flag.
    """
    interrupted = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    if threading.current_thread() is not threading.main_thread():  # signals only arrive there
        yield interrupted.is_set
        return
    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield interrupted.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def terminal_echo(enabled: bool) -> Iterator[None]:
    """Switches the terminal's echo of typed keys on or off, and restores it at the end."""
    if termios is None or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    attributes = list(before)
    local_flags = 3  # the index of c_lflag
    if enabled:
        attributes[local_flags] |= termios.ECHO
    else:
        attributes[local_flags] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSANOW, attributes)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
