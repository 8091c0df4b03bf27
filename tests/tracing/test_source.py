"""Quoted statements are found in the source code, with their line numbers."""

from __future__ import annotations

import torch

from nanochat.model import layers
from nanochat.model.gpt import GPT
from nanochat.tracing.source import ROOT, source_of


def example(x: int) -> int:
    y = x + 1
    return max(
        y,
        3,
    )


def test_statement_over_several_lines() -> None:
    source = source_of(example, "return max(")
    lines = source.file.read_text().splitlines()
    assert lines[source.line - 1].strip() == "return max("
    assert source.code.splitlines() == ["return max(", "    y,", "    3,", ")"]
    assert source.found
    assert source.name == "example"


def test_missing_statement_points_to_the_function() -> None:
    source = source_of(example, "no such thing")
    assert source.file.read_text().splitlines()[source.line - 1] == "def example(x: int) -> int:"
    assert not source.found


def test_decorated_function() -> None:
    @torch.no_grad()
    def inner() -> None:
        """Does nothing."""

    source = source_of(inner)
    assert source.file.name == "test_source.py"
    assert source.code.startswith("def inner")


def test_location_is_file_and_line() -> None:
    source = source_of(GPT.embed, "self.wte(ids)")
    file, line = source.location.split(":")
    assert file == "nanochat/model/gpt.py"
    assert "self.wte(ids)" in (ROOT / file).read_text().splitlines()[int(line) - 1]
    assert source_of(layers.norm).location.startswith("nanochat/model/layers.py:")
