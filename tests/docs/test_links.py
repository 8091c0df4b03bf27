"""What the README and the pages of docs/ name is there: pages, headings, files, names in files, messages."""

from __future__ import annotations

import ast
import csv
import re
from functools import cache
from pathlib import Path

import pytest

from nanochat.cli.troubleshooting import SECTIONS
from tests.docs.pages import DOCS, ROOT, anchors, blocks, inline_code, pages, slug, text_of, without_blocks

LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
SUFFIXES = ("py", "yaml", "md", "sh", "cpp", "js", "css", "toml", "ipynb", "png", "svg", "html")
FILE = re.compile(rf"^[\w./-]+\.({'|'.join(SUFFIXES)})$|^(nanochat|docs|tests|configs|benchmarks|scripts)/[\w./-]*$")
# Files that a command writes, or that a reader is to make.
MADE = re.compile(
    r"(^|/)(mine|my)\b|^lightning_logs/|^exports/|^(analysis|trace|report|config)\.(html|md|yaml)$|README.md$"
)
REFERENCE = re.compile(r"troubleshooting\.md#([\w-]+)")
PAGES = list(pages())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(without_blocks(page)):
        file = (page.parent / target) if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name}: {target}#{anchor}, there is only {sorted(anchors(file))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(page: Path) -> None:
    for code in inline_code(page):
        if FILE.match(code) and not MADE.search(code):
            assert exists(code), f"{page.name}: `{code}`"


def test_files_in_drawings_exist() -> None:
    drawn = [
        name for block in blocks(DOCS / "architecture.md", "mermaid") for name in re.findall(r"[\w/]+\.py\b", block)
    ]
    assert len(drawn) >= 8
    for name in drawn:
        assert exists(name), name


def exists(name: str) -> bool:
    """Whether there is such a file or folder; anywhere in the project if only its name is given."""
    if "/" in name:
        return any((folder / name).exists() for folder in (ROOT, ROOT / "nanochat", ROOT / "configs"))
    return name in file_names()


@cache
def file_names() -> frozenset[str]:
    folders = ("nanochat", "configs", "docs", "tests", "benchmarks", "scripts")
    return frozenset(p.name for p in [*ROOT.iterdir(), *(f for name in folders for f in (ROOT / name).rglob("*"))])


def test_the_slug_of_a_heading_is_githubs() -> None:
    assert slug("CPU, GPU: what's `--model.depth`?") == "cpu-gpu-whats---modeldepth"
    assert slug("1. Set up and fetch text, on a login node") == "1-set-up-and-fetch-text-on-a-login-node"


def test_every_page_is_in_the_index_and_short() -> None:
    index = text_of(DOCS / "README.md")
    for page in pages():
        if page.parent == DOCS and page.name != "README.md":
            assert f"]({page.name})" in index, f"docs/README.md does not name {page.name}"
            assert len(text_of(page).splitlines()) <= 220, f"{page.name} is too long for one reader"


# ------------------------------------------------------------------------------------------------ where to change what


def table_rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its own first row."""
    section = re.split(r"^##+ ", text_of(page).split(f"## {heading}", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_names_in_the_table_of_changes_are_in_the_files_beside_them() -> None:
    rows = table_rows(DOCS / "architecture.md", "Where to change what")
    assert len(rows) >= 15
    checked = 0
    for row in rows:
        files = re.findall(r"`([^`]+)`", row[1])
        assert files, row
        sources = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in files if (ROOT / file).is_file())
        assert sources or all((ROOT / file).is_dir() for file in files), row
        for name in re.findall(r"`([^`]+)`", row[2]):
            assert re.search(rf"\b{re.escape(name.strip('()').split('.')[-1])}\b", sources), f"{files} have no {name}"
            checked += 1
    assert checked >= 15


def test_every_part_of_the_package_is_on_the_map() -> None:
    rows = table_rows(DOCS / "architecture.md", "The map")
    on_it = {folder for row in rows for folder in re.findall(r"`(nanochat/\w+)/`", row[0])}
    assert on_it == {f"nanochat/{path.parent.name}" for path in (ROOT / "nanochat").glob("*/*.py")}


# ------------------------------------------------------------------------------------------------------------ figures


def test_sizes_that_are_compared_are_the_measured_ones() -> None:
    """Seconds, tokens/s and val/bpb are those of the runs that `plan` forecasts by."""
    with open(ROOT / "nanochat" / "planning" / "measured.csv", newline="", encoding="utf-8") as file:
        runs = {(run["depth"], run["vocab_size"], run["seconds"]): run for run in csv.DictReader(file)}
    rows = table_rows(DOCS / "comparison.md", "Sizes, vocabularies, amounts of text")
    assert len(rows) >= 10
    for depth, vocabulary, _, seconds, speed, score in rows:
        run = runs[depth, vocabulary.replace(",", ""), seconds]
        assert float(speed.replace(",", "")) == round(float(run["tokens_per_second"]))
        assert score == f"{float(run['val_bpb']):.3f}"


# ---------------------------------------------------------------------------------------------------- troubleshooting


def messages() -> str:
    """All texts in the program's source, with a sign where an f-string takes something in."""
    found: list[str] = []
    for path in [*(ROOT / "nanochat").rglob("*.py"), ROOT / "scripts" / "install.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_messages_are_quoted_as_they_are() -> None:
    """A quoted message is in the source, piece by piece, where "..." stands for what varies."""
    source = messages()
    page = text_of(DOCS / "troubleshooting.md")
    quoted = [row.split("|")[1] for row in page.splitlines() if row.startswith("|") and '"' in row.split("|")[1]]
    quoted = [text for cell in quoted for text in re.findall(r'"([^"]+)"', cell)]
    assert len(quoted) >= 25
    for text in quoted:
        for piece in re.split(r"\s*\.\.\.\s*", text):
            assert piece in source, f'"{text}": no message says "{piece}"'


def test_the_sections_that_messages_name_exist() -> None:
    known = anchors(DOCS / "troubleshooting.md")
    assert {"memory", "time", "disk", "checkpoints", "corpus", "network", "gpu", "processes", "export", "chat"} <= known
    assert {name for name, _ in SECTIONS} <= known
    for path in [
        *(ROOT / "nanochat").rglob("*.py"),
        *(ROOT / "configs").rglob("*.yaml"),
        ROOT / "configs/cluster/slurm.sh",
    ]:
        for anchor in REFERENCE.findall(path.read_text(encoding="utf-8")):
            assert anchor in known, f"{path.name} names docs/troubleshooting.md#{anchor}"
