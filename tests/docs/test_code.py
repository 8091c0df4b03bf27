"""The Python in the README and in docs/: it compiles, and what needs no more than a model runs."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import yaml
from _pytest.mark.structures import ParameterSet

from nanochat.tokenizer.conversation import check_messages
from tests.docs.pages import blocks, pages
from tests.serving.checkpoints import write_run
from tests.serving.tools import random_model, running_server

CODE = [(page, code) for page in pages() for code in blocks(page, "python")]


def test_there_is_python_on_the_pages() -> None:
    assert len(CODE) >= 3


@pytest.mark.parametrize(("page", "code"), CODE, ids=lambda value: getattr(value, "name", ""))
def test_python_compiles(page: Path, code: str) -> None:
    compile(code, str(page), "exec")


def runs_as_written(page: Path, code: str) -> str:
    """What the code prints."""
    shown = io.StringIO()
    with redirect_stdout(shown):
        exec(compile(code, str(page), "exec"), {})
    return shown.getvalue()


def parts_with(text: str) -> list[ParameterSet]:
    return [pytest.param(page, code, id=page.name) for page, code in CODE if text in code]


@pytest.mark.parametrize(("page", "code"), parts_with("nanochat.load("))
def test_python_that_loads_a_model_runs(page: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with an assistant of tiny, which says anything."""
    write_run(tmp_path, "tiny-chat", is_chat=True)
    monkeypatch.chdir(tmp_path)
    assert len(runs_as_written(page, code)) > 10


@pytest.mark.parametrize(("page", "code"), parts_with("openai.OpenAI("))
def test_python_that_asks_a_server_runs(page: Path, code: str) -> None:
    with running_server(random_model(name="tiny-chat")) as server:
        assert "http://127.0.0.1:8000" in code
        assert len(runs_as_written(page, code.replace("http://127.0.0.1:8000", server.url))) > 1


def test_data_on_the_pages_is_what_it_says() -> None:
    found = 0
    for page in pages():
        for block in blocks(page, "json"):
            for line in block.splitlines():
                check_messages(json.loads(line)["messages"])
                found += 1
        for block in blocks(page, "yaml"):
            settings = yaml.safe_load(block)
            assert set(settings) <= {"name", "model", "data", "trainer", "plan"}, page.name
            found += 1
    assert found >= 2
