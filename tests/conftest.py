"""Fixtures for all tests: a small corpus, and a cache that is not the user's."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

# An example that takes long on a busy machine is no failure; pytest's timeout catches what hangs. And the examples are
# the same each time, or else a rare one would fail the suite for somebody who has changed something else.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("suite")

WORDS = "the a model reads text and learns to guess what comes next in a row of tokens one after other".split()


# A shell starts what it puts into the background with Ctrl-C ignored, and so would be every program that is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Puts handlers back: Lightning ignores Ctrl-C once there was one, and the programs of later tests would, too."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test leaves to chance comes out the same each time, whichever tests there were before it."""
    random.seed(0)
    if (torch := sys.modules.get("torch")) is not None:  # who imports it later finds it seeded
        torch.manual_seed(0)
    if (engine := sys.modules.get("nanochat.inference.engine")) is not None:  # texts that are given no seed
        monkeypatch.setattr(engine, "secrets", SimpleNamespace(randbits=random.Random(0).getrandbits))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the suite's own, shared by its tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_CACHE", str(folder))
        yield folder


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different texts of some structure, so that there is something to learn."""
    rng = random.Random(seed)
    return [f"{n}. {' '.join(rng.choices(WORDS, k=rng.randint(5, 60)))}." for n in range(count)]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For models so small that threads would only wait for each other, on a busy machine for very long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 130 KB of text as one .jsonl file."""
    import json

    folder = tmp_path_factory.mktemp("corpus")
    lines = [json.dumps({"text": text}) for text in sentences(800)]
    (folder / "text.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder
