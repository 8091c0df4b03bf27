"""What holds for all of these tests: one thread, and patience."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature

import httpx2 as httpx
import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """The models here are so small that a second one would only be waited for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package", autouse=True)
def patience() -> Iterator[None]:
    """httpx waits for five seconds unless it is told otherwise: little where something else has the processor."""
    usual = signature(httpx.get).parameters["timeout"].default
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "read", "write", "pool"):
            patch.setattr(usual, name, 60.0)
        yield
