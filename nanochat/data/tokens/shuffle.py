"""Pseudo-random permutations that are the same on every machine and with every version of every library."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shuffled(count: int, *salts: int) -> NDArray[np.int64]:
    """A permutation of ``range(count)`` that depends only on its arguments.

    Each index gets a pseudo-random number (SplitMix64; Steele, Lea and Flood 2014), and the indices are sorted by it.

    Args:
        count: length of the permutation.
        salts: numbers that select the permutation: a seed, an epoch, ...
    """
    mixed = np.arange(count, dtype=np.uint64)
    for salt in salts:
        mixed = _splitmix64(mixed + _splitmix64(np.array([salt % 2**64], dtype=np.uint64)))
    return np.argsort(mixed, kind="stable")


def _splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
