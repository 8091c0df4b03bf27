"""Fuzzing: importing a damaged folder gives a model or a one-line error that names a file."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanochat.exchange import read_folder, write_folder
from nanochat.tokenizer import Tokenizer
from tests.conftest import sentences
from tests.exchange.samples import random_model
from tests.fuzzing import ReaderProcess, check_error_line, corruptions, report


@pytest.fixture(scope="module")
def reader() -> Iterator[ReaderProcess]:
    process = ReaderProcess()
    yield process
    process.close()


def sizes(folder: Path) -> list[int]:
    """Reads a folder and returns its sizes, which can be sent to another process."""
    imported = read_folder(folder)
    return [imported.gpt.num_parameters, len(imported.weights), imported.tokenizer.vocab_size]


OTHER_VALUES: list[Any] = [None, True, 5, -1, 0, 2**70, 1.5, float("nan"), "x", "", "\ud800", [], [1], {}, {"a": 1}]


def other_values(content: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """JSON with one value replaced or removed, which random damage to bytes rarely gives."""
    rng = random.Random(seed)
    for _ in range(count):
        data = json.loads(content)
        where, keys = data, []
        while True:
            key = rng.choice(list(where) if isinstance(where, dict) else range(len(where)))
            keys.append(key)
            if not isinstance(where[key], (dict, list)) or not where[key] or rng.random() < 0.2:
                break
            where = where[key]
        value = rng.choice(OTHER_VALUES)
        if isinstance(where, dict) and rng.random() < 0.2:
            del where[key]
        else:
            where[key] = value
        yield f"{keys} is {value!r} or missing", json.dumps(data).encode()


@pytest.mark.parametrize("count", [20, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_other_values(name: str, count: int, tmp_path: Path, reader: ReaderProcess) -> None:
    folder = model_folder(tmp_path)
    path = folder / name
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = name == "model.safetensors"
    counts, started = Counter[str](), time.monotonic()
    for how, content in other_values(whole[8 : 8 + size] if header else whole, count, seed=5):
        path.write_bytes(len(content).to_bytes(8, "little") + content + whole[8 + size :] if header else content)
        try:
            reader(how, sizes, folder)
        except (ValueError, OSError) as error:
            check_error_line(error, folder, how)
            counts["refused"] += 1
        else:
            counts["read"] += 1
    report(f"values of {name}", counts, started)


def model_folder(tmp_path: Path) -> Path:
    gpt = random_model(320, depth=2, width=64)
    write_folder(tmp_path / "model", gpt, gpt.state_dict(), Tokenizer.train(sentences(50), 320))
    return tmp_path / "model"


@pytest.mark.parametrize("count", [9, pytest.param(180, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "header"])
def test_import(name: str, count: int, tmp_path: Path, reader: ReaderProcess) -> None:
    folder = model_folder(tmp_path)
    path = folder / ("model.safetensors" if name == "header" else name)
    whole = path.read_bytes()
    damaged_part = whole[: 8 + int.from_bytes(whole[:8], "little")] if name == "header" else whole
    before = reader("nothing", sizes, folder)
    counts, started = Counter[str](), time.monotonic()
    for damaged in corruptions(damaged_part, count, seed=4):
        path.write_bytes(damaged.content + whole[len(damaged_part) :])
        try:
            after = reader(damaged.how, sizes, folder)
        except (ValueError, OSError) as error:
            check_error_line(error, folder, damaged.how)
            counts["refused"] += 1
        else:
            assert after == before or name != "model.safetensors", damaged.how
            counts["read"] += 1
    report(name, counts, started)
