"""The output of the chat: Markdown that is rendered while it arrives, or plain text outside a terminal."""

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
from nanochat.serving.markdown import MarkdownBlock, clean, split_complete_blocks
from nanochat.serving.session import Chunk

# Only the terminal's own palette, which its user has chosen to be legible, and no backgrounds.
THEME = Theme({"markdown.code": "cyan", "markdown.code_block": "none", "note": "bright_black", "error": "red"})
MAX_REFRESHES = 15  # per second: drawing takes time away from decoding


class PlainScreen:
    """Plain text, for pipes, files and dumb terminals.

    Args:
        out: the stream for answers; None for stdout.
        notes: the stream for everything else; None for stderr.
    """

    def __init__(self, out: TextIO | None = None, notes: TextIO | None = None) -> None:
        self.out, self.notes = out or sys.stdout, notes or sys.stderr

    def note(self, text: str) -> None:
        """Prints a message about the chat."""
        print(clean(text), file=self.notes)

    def error(self, text: str) -> None:
        """Prints an error."""
        print(f"error: {clean(text)}", file=self.notes)

    def show(self, chunks: Iterable[Chunk], markdown: bool = True, before: str = "") -> None:
        """Prints an answer while it arrives, without the calls of the calculator.

        Args:
            chunks: the answer.
            markdown: ignored; Markdown is printed as its source.
            before: a text that the answer continues.
        """
        end = ""
        for kind, text in chain([(TEXT, before)], chunks):
            if kind == TEXT and text:
                self.out.write(clean(text))
                self.out.flush()
                end = text[-1]
        if end != "\n":
            print(file=self.out, flush=True)


class RichScreen:
    """A terminal with colours, or with shades where NO_COLOR is set."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(theme=THEME, highlight=False)

    def note(self, text: str) -> None:
        """Prints a message about the chat."""
        for line in f"{clean(text)}\n".split("\n"):
            # indented lines are commands to copy: the terminal wraps them, so that a copy has no line break
            self.console.print(Text(line, style="note"), soft_wrap=line.startswith("  "))

    def error(self, text: str) -> None:
        """Prints an error."""
        self.console.print(Text(clean(text) + "\n", style="error"))

    def show(self, chunks: Iterable[Chunk], markdown: bool = True, before: str = "") -> None:
        """Prints an answer while it arrives. A call of the calculator is a line of its own.

        Complete blocks are printed once, and only the incomplete rest is redrawn, so an answer may be longer than the
        screen.

        Args:
            chunks: the answer.
            markdown: whether the answer is Markdown.
            before: a text that the answer continues, if it is not Markdown.
        """
        if not markdown:
            return self._show_text(chunks, before)
        rest = call = ""
        drawn = 0.0
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            for kind, text in chunks:
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
                if time.monotonic() - drawn > 1 / MAX_REFRESHES:
                    tail = MarkdownBlock(rest, self.console.height - 1)
                    live.update(tail if rest.strip() else Text(clean(call), style="note"), refresh=True)
                    drawn = time.monotonic()
            live.update(Text(), refresh=True)
        if call:
            self._print_call(call)
        self._print_block(rest)
        return None

    def _print_block(self, block: str) -> None:
        if block.strip():
            self.console.print(MarkdownBlock(block))
            self.console.print()

    def _print_call(self, call: str, result: str = "no result") -> str:
        """Prints a line such as "12*34 = 408". Returns "", the new value of the pending call."""
        self.console.print(Text(clean(f"{call} = {result}"), style="note"))
        return ""

    def _show_text(self, chunks: Iterable[Chunk], before: str) -> None:
        self.console.print(Text(clean(before), style="note"), end="")
        for kind, text in chunks:
            if kind == TEXT:
                self.console.file.write(clean(text))
                self.console.file.flush()
        self.console.print("\n")


def new_screen(plain: bool = False) -> PlainScreen | RichScreen:
    """The screen that fits stdout.

    Args:
        plain: whether to use plain text even in a terminal.
    """
    console = Console(theme=THEME, highlight=False)
    return PlainScreen() if plain or not console.is_terminal or console.is_dumb_terminal else RichScreen(console)
