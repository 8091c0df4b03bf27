"""Renders a model's Markdown in the terminal, also while it is incomplete."""

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
    """Replaces control characters: a model's output must not move the cursor or set the window's title."""
    return "".join("\N{REPLACEMENT CHARACTER}" if category(c) == "Cc" and c not in "\n\t" else c for c in text)


class _Code(CodeBlock):
    """A code block without rich's left padding, so that it can be copied into a program."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Syntax(str(self.text).rstrip(), self.lexer_name, theme=self.theme, word_wrap=True)


class _Markdown(Markdown):
    """rich's Markdown, but HTML tags such as <lambda> and the underscores of names such as __init__ are text."""

    elements = {**Markdown.elements, "fence": _Code, "code_block": _Code}

    def __init__(self, text: str) -> None:
        # hyperlinks=False prints the address of a link, so that its text cannot hide where it leads
        super().__init__("", code_theme="ansi_dark", hyperlinks=False)
        parser = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")
        self.parsed = parser.parse(fence_doctests(text))
        for token in self.parsed:
            if token.children:
                token.children = list(_literal_emphasis(token.children))


def _literal_emphasis(tokens: Sequence[Token]) -> Iterator[Token]:
    """Turns emphasis by underscores, and by stars within a word, back into text: __init__ and 2*3*4."""
    is_emphasis: list[bool] = []  # for each open emphasis, whether it is kept
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type in ("em_open", "strong_open"):
            inside = before is not None and before.type == "text" and before.content[-1:].isalnum()
            is_emphasis.append("_" not in token.markup and not inside)
        if token.type.startswith(("em_", "strong_")):
            keep = is_emphasis[-1]
            if token.type.endswith("_close"):
                is_emphasis.pop()
            yield token if keep else Token("text", "", 0, content=token.markup)
        else:
            yield token


def fence_doctests(text: str) -> str:
    """Puts code fences around doctest examples, which begin with >>> and end with an empty line.

    Markdown would parse >>> as three nested block quotes.
    """
    lines: list[str] = []
    in_fence = in_example = False
    for line in text.splitlines():
        if FENCE.match(line) and not in_example:
            in_fence = not in_fence
        elif not in_fence and not in_example and line.lstrip().startswith(">>>"):
            in_example = True
            lines.append("~~~python")
        elif in_example and not line.strip():
            in_example = False
            lines.append("~~~")
        lines.append(line)
    return "\n".join([*lines, "~~~"] if in_example else lines)


class MarkdownBlock:
    """A rich renderable for a Markdown text, without the empty lines that rich adds around some elements.

    Args:
        text: the Markdown.
        max_lines: render at most this number of lines, from the end; None renders all.
    """

    def __init__(self, text: str, max_lines: int | None = None) -> None:
        self.text, self.max_lines = text, max_lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(_Markdown(clean(self.text)), options.update(height=None), pad=False)
        filled = [n for n, line in enumerate(lines) if "".join(segment.text for segment in line).strip()]
        lines = lines[filled[0] : filled[-1] + 1] if filled else []
        for line in lines if self.max_lines is None else lines[-self.max_lines :]:
            yield from line
            yield Segment.line()


def split_complete_blocks(text: str) -> tuple[list[str], str]:
    """Splits a growing text into its complete paragraphs and code blocks, and the incomplete rest.

    A paragraph ends with an empty line; a code block, which may contain empty lines, with its closing fence.
    """
    blocks: list[str] = []
    start = position = 0  # of the current block, and of the next line
    fence = ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        begin, position = position, position + len(line)
        opening = FENCE.match(line)
        if fence:
            if opening and opening[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
                blocks.append(text[start:position])
                start = position
        elif opening:
            if text[start:begin].strip():
                blocks.append(text[start:begin])
                start = begin
            fence = opening[1]
        elif not line.strip():
            if text[start:position].strip():
                blocks.append(text[start:position])
            start = position
    return blocks, text[start:]
