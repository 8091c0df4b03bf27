"""Fixtures for all tests: a small corpus, a separate cache, seeds and signal handlers."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a slow example on a busy machine is not a failure, and pytest's timeout catches hangs. Derandomized, so
# that a rare example does not fail the suite after an unrelated change.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("suite")

WORDS = "the a model reads text and learns to guess what comes next in a row of tokens one after other".split()

# A shell starts background jobs with SIGINT ignored, which the tested programs would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Restores signal handlers: after a SIGINT, Lightning ignores the next ones, and subprocesses inherit that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds all random number generators, so that a test does not depend on the tests before it."""
    random.seed(0)
    if (torch := sys.modules.get("torch")) is not None:  # if it is imported later, its default seed is fixed
        torch.manual_seed(0)
    if (engine := sys.modules.get("nanochat.inference.engine")) is not None:  # the seeds of texts without a seed
        monkeypatch.setattr(engine, "secrets", SimpleNamespace(randbits=random.Random(0).getrandbits))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder shared by all tests, separate from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOCHAT_CACHE", str(folder))
        yield folder


def sentences(count: int, seed: int = 0) -> list[str]:
    """Distinct random texts with some structure that a model can learn."""
    rng = random.Random(seed)
    return [f"{n}. {' '.join(rng.choices(WORDS, k=rng.randint(5, 60)))}." for n in range(count)]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Limits torch to one thread: for very small models, synchronising threads takes longer than computing."""
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
