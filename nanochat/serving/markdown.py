"""A model's Markdown as a terminal shows it, also while it is still coming."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from unicodedata import category

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Markdown
from rich.segment import Segment
from rich.syntax import Syntax

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def clean(text: str) -> str:
    """The text without control characters: a model must not move the cursor, nor set the window's title."""
    return "".join("\N{REPLACEMENT CHARACTER}" if category(c) == "Cc" and c not in "\n\t" else c for c in text)


class _Code(CodeBlock):
    """Code without the column of space that rich puts before it: it can be copied into a program."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Syntax(str(self.text).rstrip(), self.lexer_name, theme=self.theme, word_wrap=True)


class _Markdown(Markdown):
    """rich's, with two differences: a tag such as <lambda> is text, and so are the underscores of __init__."""

    elements = {**Markdown.elements, "fence": _Code, "code_block": _Code}

    def __init__(self, text: str) -> None:
        # links are shown with their addresses, so that none leads elsewhere than it says
        super().__init__("", code_theme="ansi_dark", hyperlinks=False)
        parser = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")
        self.parsed = parser.parse(fence_doctests(text))
        for token in self.parsed:
            if token.children:
                token.children = list(_names_as_text(token.children))


def _names_as_text(tokens: Sequence[Token]) -> Iterator[Token]:
    """Tokens of a line, emphasis by underscores, and by stars within a word, as text: __init__ and 2*3*4."""
    opened: list[bool] = []  # of each emphasis around this place, whether it stays
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type in ("em_open", "strong_open"):
            inside = before is not None and before.type == "text" and before.content[-1:].isalnum()
            opened.append("_" not in token.markup and not inside)
        if token.type.startswith(("em_", "strong_")):
            stays = opened[-1]
            if token.type.endswith("_close"):
                opened.pop()
            yield token if stays else Token("text", "", 0, content=token.markup)
        else:
            yield token


def fence_doctests(text: str) -> str:
    """Puts fences around examples, which begin with the interpreter's >>> and end with an empty line.

    To Markdown they are quotations of quotations of quotations.
    """
    lines: list[str] = []
    fenced = example = False
    for line in text.splitlines():
        if FENCE.match(line) and not example:
            fenced = not fenced
        elif not fenced and not example and line.lstrip().startswith(">>>"):
            example = True
            lines.append("~~~python")
        elif example and not line.strip():
            example = False
            lines.append("~~~")
        lines.append(line)
    return "\n".join([*lines, "~~~"] if example else lines)


class Block:
    """A piece of Markdown without the empty lines that rich puts around some kinds.

    Args:
        text: the Markdown.
        last: show no more than so many lines from the end; None shows all.
    """

    def __init__(self, text: str, last: int | None = None) -> None:
        self.text, self.last = text, last

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(_Markdown(clean(self.text)), options.update(height=None), pad=False)
        filled = [n for n, line in enumerate(lines) if "".join(segment.text for segment in line).strip()]
        lines = lines[filled[0] : filled[-1] + 1] if filled else []
        for line in lines if self.last is None else lines[-self.last :]:
            yield from line
            yield Segment.line()


def split_complete_blocks(text: str) -> tuple[list[str], str]:
    """A text that is still coming, as the paragraphs and code blocks that are whole by now, and what is left.

    A paragraph ends with an empty line; a block of code, which may have such lines, with its closing fence.
    """
    blocks: list[str] = []
    start = place = 0
    fence = ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        begin, place = place, place + len(line)
        opening = FENCE.match(line)
        if fence:
            if opening and opening[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
                blocks.append(text[start:place])
                start = place
        elif opening:
            if text[start:begin].strip():
                blocks.append(text[start:begin])
                start = begin
            fence = opening[1]
        elif not line.strip():
            if text[start:place].strip():
                blocks.append(text[start:place])
            start = place
    return blocks, text[start:]
