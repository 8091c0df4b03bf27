"""Fixtures for all tests of this folder: one thread of torch, and longer HTTP timeouts."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature

import httpx2 as httpx
import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """The models are too small to gain from a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package", autouse=True)
def long_timeouts() -> Iterator[None]:
    """Replaces httpx's default timeout of 5 seconds, which a busy machine may exceed."""
    default = signature(httpx.get).parameters["timeout"].default
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "read", "write", "pool"):
            patch.setattr(default, name, 60.0)
        yield
