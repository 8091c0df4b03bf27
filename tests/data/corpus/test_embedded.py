import functools
import json
import sys
from pathlib import Path

import pytest

from nanochat.data.corpus.docstrings import read_c_modules, read_module, read_topics
from nanochat.data.corpus.embedded import embedded_corpus, scan

SOURCE = '''
"""Describes the module."""

import sys

class Thing(Base):
    """A thing."""

    def __init__(self, size: int = 3, *, colour="red"):
        self.size = size

    def act(self, /, where, *times: float) -> None:
        """Acts."""
        def inner():
            """Is not documented."""

    def silent(self):
        pass

if sys.platform == "win32":
    def only_there():
        """Runs there."""
else:
    async def only_here(a, b=[1, 2]):
        """
        Runs here,

            indented.
        """

add_docstr(lib.exp, r"""
exp(x) -> y

The exponential.

Args:
    {input}
""".format(**common))
add_docstr(lib.log, "log(x) -> y\\n" + r"""
The logarithm.
""" + tail)
add_newdoc("numpy.core", "array", "Makes an array.")
'''


def test_docstrings_with_their_names_and_signatures(tmp_path: Path) -> None:
    path = tmp_path / "shop.py"
    path.write_text(SOURCE)
    assert [document[:] for document in read_module(path, "shop")] == [
        ("shop", "", "Describes the module."),
        ("shop.Thing", "(size: int=3, *, colour='red')", "A thing."),
        ("shop.Thing.act", "(where, *times: float)", "Acts."),
        ("shop.only_there", "()", "Runs there."),
        ("shop.only_here", "(a, b=[1, 2])", "Runs here,\n\n    indented."),
        ("lib.exp", "", "exp(x) -> y\n\nThe exponential.\n\nArgs:"),
        ("lib.log", "", "log(x) -> y\n\nThe logarithm."),
        ("numpy.core.array", "", "Makes an array."),
    ]


def test_a_document_begins_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text('def f(x):\n    """Says x."""')
    assert read_module(tmp_path / "m.py", "m")[0].text == "m.f(x)\n\nSays x.\n"


def test_unparsable_files_have_no_documents(tmp_path: Path) -> None:
    (tmp_path / "template.py").write_text("{{ not python }} %%")
    (tmp_path / "binary.py").write_bytes(b"\x00\xff")
    (tmp_path / "half.py").write_text('"""half a pair: \\ud800"""')
    for name in ("template.py", "binary.py", "half.py", "missing.py"):
        assert read_module(tmp_path / name, "m") == []


def test_manual_and_c_modules() -> None:
    topics = {d.name: d.docstring for d in read_topics()}
    assert "while" in topics
    assert len(topics) > 50
    c_modules = {d.name: d for d in read_c_modules()}
    for name in ("len", "print", "str.split", "math.sqrt", "itertools.chain", "time.sleep", "os.listdir"):
        assert len(c_modules[name].docstring) > 20, name
    assert c_modules["len"].text.startswith("len(obj, /)\n\nReturn the number of items")


def test_replaced_hooks_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program such as pytest may replace them, and the corpus must not depend on it."""
    before = list(read_c_modules())
    assert {"sys.unraisablehook", "sys.excepthook"} <= {document.name for document in before}
    monkeypatch.setattr(sys, "unraisablehook", functools.partial(print))
    monkeypatch.setattr(sys, "excepthook", print)
    assert list(read_c_modules()) == before


def test_the_whole_corpus() -> None:
    """A real scan of this installation: expected size, no duplicates, reproducible."""
    documents = list(scan())
    texts = [d.docstring for d in documents]
    assert 15e6 < sum(len(d.text) for d in documents) < 40e6
    assert len(texts) == len(set(texts))
    names = {d.name for d in documents}
    assert {"textwrap.dedent", "json.dumps", "torch.nn.modules.linear.Linear", "torch.abs", "len"} <= names
    assert {name.split(".")[0] for name in names} >= {"torch", "numpy", "sympy", "networkx", "torchmetrics"}
    assert not any(".tests." in name for name in names if name.startswith(("sympy.", "networkx.", "numpy.")))
    lines = (embedded_corpus() / "documents.jsonl").read_text(encoding="utf-8").splitlines()  # another scan
    assert [json.loads(line)["docstring"] for line in lines] == texts
