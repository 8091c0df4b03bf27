"""The Python examples in the README and in docs/ compile, and those that need only a model run."""

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


def test_pages_contain_python() -> None:
    assert len(CODE) >= 3


@pytest.mark.parametrize(("page", "code"), CODE, ids=lambda value: getattr(value, "name", ""))
def test_python_compiles(page: Path, code: str) -> None:
    compile(code, str(page), "exec")


def run_code(page: Path, code: str) -> str:
    """Runs the code and returns its output."""
    shown = io.StringIO()
    with redirect_stdout(shown):
        exec(compile(code, str(page), "exec"), {})
    return shown.getvalue()


def code_with(text: str) -> list[ParameterSet]:
    return [pytest.param(page, code, id=page.name) for page, code in CODE if text in code]


@pytest.mark.parametrize(("page", "code"), code_with("nanochat.load("))
def test_model_examples_run(page: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with an untrained assistant of tiny."""
    write_run(tmp_path, "tiny-chat", is_chat=True)
    monkeypatch.chdir(tmp_path)
    assert len(run_code(page, code)) > 10


@pytest.mark.parametrize(("page", "code"), code_with("openai.OpenAI("))
def test_client_example_runs(page: Path, code: str) -> None:
    with running_server(random_model(name="tiny-chat")) as server:
        assert "http://127.0.0.1:8000" in code
        assert len(run_code(page, code.replace("http://127.0.0.1:8000", server.url))) > 1


def test_json_and_yaml_examples_are_valid() -> None:
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
