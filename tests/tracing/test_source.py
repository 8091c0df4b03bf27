"""The lines that a trace names are those of the statements it speaks of."""

from __future__ import annotations

import torch

from nanochat.model import layers
from nanochat.model.gpt import GPT
from nanochat.tracing.source import ROOT, source_of


def some_function(x: int) -> int:
    y = x + 1
    return max(
        y,
        3,
    )


def test_a_statement_is_found_with_all_of_its_lines() -> None:
    source = source_of(some_function, "return max(")
    lines = source.file.read_text().splitlines()
    assert lines[source.line - 1].strip() == "return max("
    assert source.code.splitlines() == ["return max(", "    y,", "    3,", ")"]
    assert source.found
    assert source.name == "some_function"


def test_a_statement_that_is_gone_is_its_function() -> None:
    source = source_of(some_function, "no such thing")
    assert source.file.read_text().splitlines()[source.line - 1] == "def some_function(x: int) -> int:"
    assert not source.found


def test_a_decorated_function_is_found_itself() -> None:
    @torch.no_grad()
    def inner() -> None:
        """Nothing."""

    source = source_of(inner)
    assert source.file.name == "test_source.py"
    assert source.code.startswith("def inner")


def test_the_place_is_where_the_line_is() -> None:
    source = source_of(GPT.embed, "self.wte(ids)")
    file, line = source.place.split(":")
    assert file == "nanochat/model/gpt.py"
    assert "self.wte(ids)" in (ROOT / file).read_text().splitlines()[int(line) - 1]
    assert source_of(layers.norm).place.startswith("nanochat/model/layers.py:")
