"""Option names and their checks."""

from __future__ import annotations

import pytest

from nanochat.options import at_least, check_name, did_you_mean, flatten_config


def test_flatten_config() -> None:
    config = {"model": {"depth": 4, "width": None}, "data": {"tasks": {"gsm8k": 1.5}, "nothing": {}}, "plugins": [1]}
    assert flatten_config(config) == {"model.depth": 4, "model.width": None, "data.tasks.gsm8k": 1.5, "plugins": "[1]"}


def test_did_you_mean() -> None:
    assert did_you_mean("depht", ["width", "depth"]) == ", did you mean depth?"
    assert did_you_mean("abacus", ["width", "depth"]) == ""


def test_at_least_names_the_option() -> None:
    at_least(1, "data.", batch_size=1, row_length=None)
    with pytest.raises(ValueError, match=r"^--data\.row_length must be at least 1, not 0$"):
        at_least(1, "data.", batch_size=1, row_length=0)


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "/a", "a\\b", "a\nb"])
def test_check_name(name: str) -> None:
    check_name("tiny-2.1 (großes)")
    with pytest.raises(ValueError, match="is not a folder name"):
        check_name(name)
