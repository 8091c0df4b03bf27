"""The notebook has no stored outputs, explains its cells, and runs from top to bottom."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from tests.docs.pages import NOTEBOOK, ROOT, notebook_lines
from tests.docs.test_runs import shrink


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_notebook_has_no_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_cells_are_short_and_explained(notebook: nbformat.NotebookNode) -> None:
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown"
    assert "code code code" not in " ".join(kinds)
    assert all(len(cell.source.splitlines()) <= 20 for cell in notebook.cells)


def test_notebook_has_one_parameter_cell(notebook: nbformat.NotebookNode) -> None:
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert re.search(r"^MINUTES = \d+$", cell.source, re.MULTILINE)


def test_links_resolve(notebook: nbformat.NotebookNode) -> None:
    targets = [t for cell in notebook.cells for t in re.findall(r"\]\((?!http)([^)#]+)", cell.source)]
    assert targets
    for target in targets:
        assert (NOTEBOOK.parent / target).is_file(), target


def test_notebook_trains_and_analyzes() -> None:
    called = {line.text.split()[2] for line in notebook_lines()}
    assert {"fit", "trace", "analyze"} <= called


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its commands need a POSIX shell")
def test_notebook_runs(notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small tiers and a few seconds of training."""
    from nbclient import NotebookClient

    shrink(tmp_path, "embedded", {"functions": 2, "arithmetic": 2, "identity": 1})
    shutil.copy2(ROOT / "cli.py", tmp_path)
    (tmp_path / "docs").mkdir()
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = re.sub(r"MINUTES = \d+", "MINUTES = 0.05", parameters.source)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    client = NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path / "docs")}})
    client.execute()  # raises if a cell does
    shown = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert shown.count("Done in ") == 2  # a failing shell command does not fail its cell
    assert "nanochat: error" not in shown
    assert "Traceback" not in shown
    pictures = [
        o for c in notebook.cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == 4
