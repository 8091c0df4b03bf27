"""Pages, headings, files, names and messages that the documentation mentions exist."""

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
# Files that a command writes, or that a reader creates.
GENERATED = re.compile(
    r"(^|/)(mine|my)\b|^lightning_logs/|^exports/|^(analysis|trace|report|config)\.(html|md|yaml)$|README.md$"
)
REFERENCE = re.compile(r"troubleshooting\.md#([\w-]+)")
PAGES = [*pages(), ROOT / "benchmarks" / "log-0.1.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page: Path) -> None:
    for target, anchor in LINK.findall(without_blocks(page)):
        file = (page.parent / target) if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name}: {target}#{anchor}, there is only {sorted(anchors(file))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_files_exist(page: Path) -> None:
    for code in inline_code(page):
        if FILE.match(code) and not GENERATED.search(code):
            assert exists(code), f"{page.name}: `{code}`"


def test_files_in_diagrams_exist() -> None:
    drawn = [
        name for block in blocks(DOCS / "architecture.md", "mermaid") for name in re.findall(r"[\w/]+\.py\b", block)
    ]
    assert len(drawn) >= 8
    for name in drawn:
        assert exists(name), name


def exists(name: str) -> bool:
    """Whether the file or folder exists; a name without a folder may be anywhere in the project."""
    if "/" in name:
        return any((folder / name).exists() for folder in (ROOT, ROOT / "nanochat", ROOT / "configs"))
    return name in file_names()


@cache
def file_names() -> frozenset[str]:
    folders = ("nanochat", "configs", "docs", "tests", "benchmarks", "scripts")
    return frozenset(p.name for p in [*ROOT.iterdir(), *(f for name in folders for f in (ROOT / name).rglob("*"))])


def test_slug_matches_github() -> None:
    assert slug("CPU, GPU: what's `--model.depth`?") == "cpu-gpu-whats---modeldepth"
    assert slug("1. Set up and fetch text, on a login node") == "1-set-up-and-fetch-text-on-a-login-node"


def test_pages_are_indexed_and_short() -> None:
    index = text_of(DOCS / "README.md")
    for page in pages():
        if page.parent == DOCS and page.name != "README.md":
            assert f"]({page.name})" in index, f"docs/README.md does not name {page.name}"
            assert len(text_of(page).splitlines()) <= 220, f"{page.name} is too long for one reader"


# ------------------------------------------------------------------------------------------------ where to change what


def table_rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its header; empty if there is no table."""
    section = re.split(r"^##+ ", text_of(page).split(f"## {heading}", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_names_in_change_table_exist() -> None:
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


def test_every_folder_is_on_the_map() -> None:
    rows = table_rows(DOCS / "architecture.md", "The map")
    on_it = {folder for row in rows for folder in re.findall(r"`(nanochat/\w+)/`", row[0])}
    assert on_it == {f"nanochat/{path.parent.name}" for path in (ROOT / "nanochat").glob("*/*.py")}


# ------------------------------------------------------------------------------------------------------------ figures


def test_size_table_matches_measured_runs() -> None:
    """Seconds, tokens/s and val/bpb are those of measured.csv; no table while that file has runs of version 0.1.0."""
    with open(ROOT / "nanochat" / "planning" / "measured.csv", newline="", encoding="utf-8") as file:
        measured = list(csv.DictReader(file))
    rows = table_rows(DOCS / "comparison.md", "Sizes, vocabularies, amounts of text")
    if "ngram_slots" in measured[0]:
        assert not rows, "the runs in measured.csv are not of the present model"
        return
    runs = {(run["depth"], run["vocab_size"], run["seconds"]): run for run in measured}
    assert len(rows) >= 10, "docs/comparison.md needs a table of the runs in measured.csv"
    for depth, vocabulary, _, seconds, speed, score in rows:
        run = runs[depth, vocabulary.replace(",", ""), seconds]
        assert float(speed.replace(",", "")) == round(float(run["tokens_per_second"]))
        assert score == f"{float(run['val_bpb']):.3f}"


# ---------------------------------------------------------------------------------------------------- troubleshooting


def messages() -> str:
    """All string literals in the source, with a NUL in place of each f-string expression."""
    found: list[str] = []
    for path in [*(ROOT / "nanochat").rglob("*.py"), ROOT / "scripts" / "install.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_quoted_messages_exist() -> None:
    """Each part of a quoted message, between "...", is in the source."""
    source = messages()
    page = text_of(DOCS / "troubleshooting.md")
    quoted = [row.split("|")[1] for row in page.splitlines() if row.startswith("|") and '"' in row.split("|")[1]]
    quoted = [text for cell in quoted for text in re.findall(r'"([^"]+)"', cell)]
    assert len(quoted) >= 25
    for text in quoted:
        for piece in re.split(r"\s*\.\.\.\s*", text):
            assert piece in source, f'"{text}": no message contains "{piece}"'


def test_referenced_sections_exist() -> None:
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
