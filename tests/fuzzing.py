"""Random corruptions of files, as caused by disks, networks and interrupted copies, and a process to read them in."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from nanochat.wording import one_line

SECONDS = 60.0  # time limit for reading a file of some kilobytes, on a busy machine
ADDRESS_SPACE = 4 * 2**30  # bytes that the reading process may allocate besides its libraries: less than a memory bomb
RESIDENT = 700 * 2**20  # bytes of resident memory that it may use


class Corrupted(NamedTuple):
    """The corrupted content of a file.

    Attributes:
        how: description of the corruption.
        content: the corrupted content.
        touched: ranges of the original content that were changed or moved; for an insertion, its position.
    """

    how: str
    content: bytes
    touched: list[tuple[int, int]]

    def spares(self, begin: int, end: int) -> bool:
        """Whether a range of the original content is unchanged."""
        return all(last <= begin or end <= first for first, last in self.touched)


def _flip_bits(content: bytes, rng: random.Random) -> Corrupted:
    changed, places = bytearray(content), [rng.randrange(len(content)) for _ in range(rng.choice([1, 1, 3]))]
    for place in places:
        changed[place] ^= 1 << rng.randrange(8)
    return Corrupted(f"bits flipped at {places}", bytes(changed), [(place, place + 1) for place in places])


def _overwrite(content: bytes, rng: random.Random) -> Corrupted:
    begin, end = _block(content, rng, 16)
    return Corrupted(
        f"{begin} to {end} overwritten", content[:begin] + rng.randbytes(end - begin) + content[end:], [(begin, end)]
    )


def _increase(content: bytes, rng: random.Random) -> Corrupted:
    """Replaces a digit, so that JSON may stay valid."""
    digits = [i for i, byte in enumerate(content) if byte in b"0123456789"] or [rng.randrange(len(content))]
    place = rng.choice(digits)
    changed = content[:place] + rng.choice([b"9", b"0", b"1", b"-", b"77777777"]) + content[place + 1 :]
    return Corrupted(f"another number at {place}", changed, [(place, place + 1)])


def _truncate(content: bytes, rng: random.Random) -> Corrupted:
    end = rng.choice([0, len(content) - 1, rng.randrange(len(content)), rng.randrange(len(content))])
    return Corrupted(f"cut short to {end}", content[:end], [(end, len(content))])


def _insert(content: bytes, rng: random.Random) -> Corrupted:
    place, what = rng.randrange(len(content) + 1), rng.randbytes(rng.choice([1, 4, 300]))
    return Corrupted(
        f"{len(what)} bytes inserted at {place}", content[:place] + what + content[place:], [(place, place + 1)]
    )


def _delete(content: bytes, rng: random.Random) -> Corrupted:
    begin, end = _block(content, rng, rng.choice([1, 16, 4096]))
    return Corrupted(f"{begin} to {end} deleted", content[:begin] + content[end:], [(begin, end)])


def _zero(content: bytes, rng: random.Random) -> Corrupted:
    begin, end = _block(content, rng, rng.choice([8, 512, 4096]))
    return Corrupted(f"{begin} to {end} zeroed", content[:begin] + bytes(end - begin) + content[end:], [(begin, end)])


def _swap(content: bytes, rng: random.Random) -> Corrupted:
    size = max(1, min(len(content) // 3, rng.choice([8, 512])))
    first = rng.randrange(max(1, len(content) - 2 * size))
    second = rng.randrange(first + size, max(first + size + 1, len(content) - size + 1))
    a, b = content[first : first + size], content[second : second + size]
    changed = content[:first] + b + content[first + size : second] + a + content[second + size :]
    return Corrupted(
        f"{size} bytes at {first} and {second} swapped", changed, [(first, first + size), (second, second + size)]
    )


def _repeat(content: bytes, rng: random.Random) -> Corrupted:
    begin, end = _block(content, rng, rng.choice([8, 512]))
    return Corrupted(f"{begin} to {end} repeated", content[:end] + content[begin:end] + content[end:], [(end, end + 1)])


def _block(content: bytes, rng: random.Random, most: int) -> tuple[int, int]:
    begin = rng.randrange(len(content))
    return begin, min(len(content), begin + rng.randint(1, most))


KINDS: list[Callable[[bytes, random.Random], Corrupted]] = [
    *(_flip_bits, _overwrite, _increase, _truncate, _insert, _delete, _zero, _swap, _repeat)
]


def corruptions(content: bytes, count: int, seed: int, begin: int = 0) -> Iterator[Corrupted]:
    """Corrupted versions of a file, reproducible by the seed, each kind of corruption equally often.

    Args:
        content: content of the file.
        count: number of versions.
        seed: seed of the random corruptions.
        begin: bytes before this position are never corrupted.
    """
    rng = random.Random(seed)
    while count:
        for corrupt in KINDS[: min(count, len(KINDS))]:
            how, rest, touched = corrupt(content[begin:], rng)
            corrupted = content[:begin] + rest
            if corrupted != content:
                yield Corrupted(f"{how} (from {begin} on)", corrupted, [(a + begin, b + begin) for a, b in touched])
                count -= 1


class ReaderProcess:
    """Calls functions in a subprocess, so that a crash, a hang or excessive memory use only fails the test."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,), daemon=True)
        self._process.start()
        there.close()
        self._answer(200.0, "starting")

    def __call__(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function and returns its result; raises its ValueError or OSError.

        Args:
            what: description of the call, for the message of a failure.
            function: a function of a module, with arguments and results that can be pickled.
            arguments: its arguments.
        """
        self._here.send((function, arguments))
        return self._answer(SECONDS, what)

    def _answer(self, seconds: float, what: str) -> Any:
        try:
            assert self._here.poll(seconds), f"it hangs: {what}"
            outcome, value = self._here.recv()
        except EOFError:
            self._process.join()
            raise AssertionError(f"the process crashed ({self._process.exitcode}): {what}") from None
        if outcome == "raised":
            raise value
        assert outcome == "returned", f"{value}: {what}"
        return value

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._here.close()


def _serve(connection: Any) -> None:
    with contextlib.suppress(ImportError, ValueError):  # not available on Windows
        import resource

        import torch  # noqa: F401 (imported first, because a CUDA build reserves gigabytes of address space)

        limit = psutil.Process().memory_info().vms + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    limit = max(RESIDENT, _resident())  # on Linux, the peak of the parent process is inherited
    connection.send(("returned", None))
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = ("returned", function(*arguments))
        except (ValueError, OSError) as error:
            kind = OSError if isinstance(error, OSError) else ValueError
            answer = ("raised", kind(str(error)))
        except BaseException as error:
            answer = ("failed", f"{type(error).__name__}: {error}")
        if (used := _resident()) > limit:
            answer = ("failed", f"took {used:,} bytes of memory")
        connection.send(answer)


def _resident() -> int:
    """Peak resident memory of this process in bytes; 0 if unknown."""
    with contextlib.suppress(ImportError):
        import resource
        import sys

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0


def check_error_line(error: Exception, path: Path, how: str) -> None:
    """Checks that the error for a corrupted file is a single line that names the file."""
    line = one_line(str(error))
    assert "\n" not in str(error), (how, line)
    assert len(line) < 400, (how, line)
    assert str(path) in line, (how, line)


def report(kind: str, counts: dict[str, int], started: float) -> None:
    """Prints the outcomes of a fuzz test (visible with ``pytest -s``)."""
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    print(f"{kind}: {sum(counts.values())} files in {time.monotonic() - started:.1f} s: {outcomes}")
