"""Parsing of --over."""

from __future__ import annotations

import pytest

from nanochat.sweeping.space import describe_setting, grid, parse_axes, parse_axis, short_names, split_values


def test_values() -> None:
    axis = parse_axis("model.depth=4, 6,8")
    assert (axis.option, axis.values, axis.is_range) == ("model.depth", ("4", "6", "8"), False)
    assert parse_axis("--model.depth=4").option == "model.depth"  # with dashes, as for fit
    assert parse_axis("model.matrix_lr=0.1,0.10,1e-1,0.2").values == ("0.1", "0.2")  # three spellings of one value
    assert parse_axis("model.depth=2,3,2").values == ("2", "3")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[1,2],3", ["[1,2]", "3"]),
        ("{a: 1, b: 2},{a: 3}", ["{a: 1, b: 2}", "{a: 3}"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("a]b,c", ["a]b", "c"]),
        ("", [""]),
    ],
)
def test_split_values(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@pytest.mark.parametrize(
    ("text", "low", "high", "integer", "log"),
    [
        ("model.matrix_lr=0.005..0.05", 0.005, 0.05, False, True),  # a factor of ten exactly
        ("model.matrix_lr=0.01..0.09", 0.01, 0.09, False, False),
        ("model.warmdown=0..1", 0, 1, True, False),
        ("model.warmdown=0.0..1.", 0, 1, False, False),
        ("model.depth=2..12", 2, 12, True, False),
        ("data.batch_size=1..64", 1, 64, True, True),
        ("model.weight_decay=-1e-3..1e-2", -0.001, 0.01, False, False),
    ],
)
def test_range(text: str, low: float, high: float, integer: bool, log: bool) -> None:
    axis = parse_axis(text)
    assert (axis.low, axis.high, axis.integer, axis.log) == (low, high, integer, log)
    distribution = axis.distribution()
    assert (distribution.low, distribution.high, distribution.log) == (low, high, log)  # type: ignore[attr-defined]


def test_format() -> None:
    assert parse_axis("a=0.001..1.0").format(0.0123456) == "0.01235"
    assert parse_axis("a=1..5").format(3) == "3"


@pytest.mark.parametrize(
    ("texts", "search", "message"),
    [
        ([], False, "no option to vary"),
        (["model.depth"], False, "--over model.depth: give an option"),
        (["=3"], False, "give an option"),
        (["model.depth="], False, "give an option"),
        (["model.depth=4,,6"], False, "there is a value missing"),
        (["model.depth=4", "model.depth=6"], False, "given twice"),
        (["model.depth=4..8"], False, "add --search=20 to try 20 settings"),
        (["model.depth=8..4"], True, "from a smaller to a larger"),
        (["model.depth=4..4"], True, "from a smaller to a larger"),
        (["name=a,b"], False, "a sweep sets the folder of each trial"),
        (["seed_everything=1,2"], False, "--seeds=3"),
        (["trainer.logger.name=a"], False, "the project's own logger"),
    ],
)
def test_invalid_axes(texts: list[str], search: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_axes(texts, search)


def test_grid() -> None:
    axes = parse_axes(["model.depth=4,6", "model.matrix_lr=0.01,0.02,0.04"], search=False)
    settings = [(s["model.depth"], s["model.matrix_lr"]) for s in grid(axes)]
    assert settings == [("4", "0.01"), ("4", "0.02"), ("4", "0.04"), ("6", "0.01"), ("6", "0.02"), ("6", "0.04")]


def test_short_names() -> None:
    assert short_names(["model.depth", "data.seed"]) == {"model.depth": "depth", "data.seed": "seed"}
    assert short_names(["a.x", "b.x", "c.y"]) == {"a.x": "a.x", "b.x": "b.x", "c.y": "y"}
    assert describe_setting({"model.depth": "4", "model.matrix_lr": "0.01"}) == "depth=4 matrix_lr=0.01"
