"""Reads commands, links and code from the README, the pages of docs/ and the notebook."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "nanochat.ipynb"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = ("sh", "bash", "powershell")
SEPARATORS = {"|", "||", "&&", ";", "&"}  # between the commands of a line


class Line(NamedTuple):
    """A line of a code block or a command in the text, with its page."""

    page: Path
    text: str

    @property
    def id(self) -> str:
        return f"{self.page.name}: {self.text}"


@cache
def pages() -> tuple[Path, ...]:
    return (ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted(DOCS.glob("*.md")))


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, *languages: str) -> list[str]:
    """The page's code blocks in these languages."""
    return [content for language, content in BLOCK.findall(text_of(page)) if language in languages]


def without_blocks(page: Path) -> str:
    """The page's text without its code blocks."""
    return BLOCK.sub("", text_of(page))


def inline_code(page: Path) -> list[str]:
    """The inline code in the page's text, with line breaks as spaces."""
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", without_blocks(page))]


def lines() -> Iterator[Line]:
    """The lines of all shell blocks; lines continued by a backslash or a loop are joined."""
    for page in pages():
        for block in blocks(page, *SHELL):
            joined = re.sub(r"\\\n", " ", block)
            joined = re.sub(r"\bdo\n|;\n", lambda m: m[0].replace("\n", " "), joined)
            for line in joined.splitlines():
                if line.strip() and not line.lstrip().startswith("#"):
                    yield Line(page, line.strip())


def notebook_lines() -> Iterator[Line]:
    """The notebook's shell commands, with values in place of variables."""
    values = {"PYTHON": "python", "MINUTES": "5", "ACCELERATOR": "cpu", "run": "lightning_logs/tiny/version_0"}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            for line in re.sub(r"\\\n", " ", "".join(cell["source"])).splitlines():
                if line.startswith("!"):
                    yield Line(NOTEBOOK, re.sub(r"\{(\w+)\}", lambda m: values[m[1]], line[1:].strip()))


def commands(line: Line) -> list[list[str]]:
    """The commands of a line, each as words; one for each iteration of a loop and each part of a pipe.

    Comments are left out. A line for Windows is converted to one for Linux.
    """
    text = line.text
    if text.startswith((".venv\\", "py ")):
        text = re.sub(r"^\.venv\\Scripts\\", "", text).replace("\\", "/")
    if loop := re.fullmatch(r"for (\w+) in (.*?); do (.*?);? done(?:\s+#.*)?", text):
        name, values, body = loop.groups()
        turns = [re.sub(rf"\$\{{?{name}\b\}}?", value, body) for value in shlex.split(values)]
        return [words for turn in turns for words in commands(Line(line.page, turn))]
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";|&")
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[list[str]] = [[]]
    for word in lexer:
        if word.startswith("#"):
            break
        if word in SEPARATORS:
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


def cli_arguments(words: list[str]) -> list[str] | None:
    """The arguments of the project's command line in a command; None if it starts another program."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # environment variables
        words = words[1:]
    if words[:1] == ["torchrun"] and "cli.py" in words:
        return words[words.index("cli.py") + 1 :]
    if words[:2] == ["sbatch", "configs/cluster/slurm.sh"]:
        return ["fit", *words[2:]]
    if words[:1] == ["nanochat"]:
        return words[1:]
    if words and re.fullmatch(r"(.*/)?python3?", words[0]) and words[1:2] == ["cli.py"]:
        return words[2:]
    return None


@cache
def cli_commands() -> tuple[Line, ...]:
    """All commands of the project's command line on the pages and in the notebook, without duplicates, shell-quoted."""
    found: dict[tuple[str, ...], Line] = {}
    for line in [*lines(), *(notebook_lines() if NOTEBOOK.exists() else ())]:
        for words in commands(line):
            if (arguments := cli_arguments(words)) is not None:
                found.setdefault(tuple(arguments), Line(line.page, shlex.join(arguments)))
    for page in pages():
        for code in inline_code(page):
            if code.startswith("python cli.py ") and "..." not in code and "COMMAND" not in code:
                found.setdefault(tuple(shlex.split(code)[2:]), Line(page, code.removeprefix("python cli.py ")))
    return tuple(found.values())


def slug(heading: str) -> str:
    """The anchor that GitHub generates for a heading."""
    heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page: its headings, and its <a id="..."> elements."""
    text = without_blocks(page)
    headings = [slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    numbered = [h if headings[:n].count(h) == 0 else f"{h}-{headings[:n].count(h)}" for n, h in enumerate(headings)]
    return frozenset([*numbered, *re.findall(r'<a id="([\w-]+)">', text)])
