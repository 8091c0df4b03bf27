"""What the chat shows: Markdown that grows as it comes, or plain text where there is no terminal to show more."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from itertools import chain
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text
from rich.theme import Theme

from nanochat.inference.generation import OUTPUT, PYTHON, TEXT
from nanochat.serving.markdown import Block, clean, split_complete_blocks
from nanochat.serving.session import Chunk

# The terminal's own colours, which its user has chosen to be legible, and no backgrounds.
THEME = Theme({"markdown.code": "cyan", "markdown.code_block": "none", "note": "bright_black", "error": "red"})
REFRESHES = 15  # a second, at most: drawing takes time from writing


class PlainScreen:
    """Text as it is, for pipes, files and terminals that can do nothing but print.

    Args:
        out: where answers go.
        notes: where everything else goes.
    """

    def __init__(self, out: TextIO | None = None, notes: TextIO | None = None) -> None:
        self.out, self.notes = out or sys.stdout, notes or sys.stderr

    def note(self, text: str) -> None:
        """Says something about the chat."""
        print(clean(text), file=self.notes)

    def error(self, text: str) -> None:
        """Says what is wrong."""
        print(f"error: {clean(text)}", file=self.notes)

    def show(self, pieces: Iterable[Chunk], markdown: bool = True, before: str = "") -> None:
        """Shows an answer while it comes, without the calculator's part in it.

        Args:
            pieces: of the answer, as they come.
            markdown: whether it is Markdown, which is shown as it is here.
            before: a text that it goes on with.
        """
        end = ""
        for kind, text in chain([(TEXT, before)], pieces):
            if kind == TEXT and text:
                self.out.write(clean(text))
                self.out.flush()
                end = text[-1]
        if end != "\n":
            print(file=self.out, flush=True)


class RichScreen:
    """A terminal with colours, or shades where NO_COLOR is set."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(theme=THEME, highlight=False)

    def note(self, text: str) -> None:
        """Says something about the chat."""
        for line in f"{clean(text)}\n".split("\n"):
            # a command is copied from the screen: where it is too long for a line, the terminal goes on in the next
            self.console.print(Text(line, style="note"), soft_wrap=line.startswith("  "))

    def error(self, text: str) -> None:
        """Says what is wrong."""
        self.console.print(Text(clean(text) + "\n", style="error"))

    def show(self, pieces: Iterable[Chunk], markdown: bool = True, before: str = "") -> None:
        """Shows an answer while it comes: what is whole is printed for good, and only the rest drawn again and again.

        So an answer may be longer than the screen. A call of the calculator is a line of its own.
        """
        if not markdown:
            return self._show_text(pieces, before)
        rest = call = ""
        drawn = 0.0
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            for kind, text in pieces:
                if kind == TEXT:
                    if call:
                        call = self._print_call(call)
                    blocks, rest = split_complete_blocks(rest + text)
                    for block in blocks:
                        self._print_block(block)
                else:
                    self._print_block(rest)
                    rest = ""
                    if kind == PYTHON:
                        call += text
                    elif kind == OUTPUT:
                        call = self._print_call(call, text)
                if time.monotonic() - drawn > 1 / REFRESHES:
                    whole = Block(rest, self.console.height - 1) if rest.strip() else Text(clean(call), style="note")
                    live.update(whole, refresh=True)
                    drawn = time.monotonic()
            live.update(Text(), refresh=True)
        if call:
            self._print_call(call)
        self._print_block(rest)
        return None

    def _print_block(self, block: str) -> None:
        if block.strip():
            self.console.print(Block(block))
            self.console.print()

    def _print_call(self, call: str, result: str = "no result") -> str:
        """A line such as "12*34 = 408"; returns what is then left of the call: nothing."""
        self.console.print(Text(clean(f"{call} = {result}"), style="note"))
        return ""

    def _show_text(self, pieces: Iterable[Chunk], before: str) -> None:
        self.console.print(Text(clean(before), style="note"), end="")
        for kind, text in pieces:
            if kind == TEXT:
                self.console.file.write(clean(text))
                self.console.file.flush()
        self.console.print("\n")


def new_screen(plain: bool = False) -> PlainScreen | RichScreen:
    """What fits where the answers go.

    Args:
        plain: whether to show plain text even in a terminal.
    """
    console = Console(theme=THEME, highlight=False)
    return PlainScreen() if plain or not console.is_terminal or console.is_dumb_terminal else RichScreen(console)
