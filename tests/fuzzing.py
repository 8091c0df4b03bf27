"""Damage as disks, networks and interrupted copies do it, and a process to read damaged files in."""

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

SECONDS = 60.0  # that reading a file of some kilobytes may take on a busy machine
ADDRESS_SPACE = 4 * 2**30  # that the process that reads may take, besides its libraries: less than a memory bomb
RESIDENT = 700 * 2**20  # bytes that it may really use


class Corrupted(NamedTuple):
    """A file's content after an accident.

    Attributes:
        how: what happened, in words.
        content: what the file now holds.
        touched: ranges of the original that are not what and where they were; an insertion touches where it happened.
    """

    how: str
    content: bytes
    touched: list[tuple[int, int]]

    def spares(self, begin: int, end: int) -> bool:
        """Whether a range of the original is still there as it was."""
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
    """Another digit where there is one: damage that is still JSON."""
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


ACCIDENTS: list[Callable[[bytes, random.Random], Corrupted]] = [
    *(_flip_bits, _overwrite, _increase, _truncate, _insert, _delete, _zero, _swap, _repeat)
]


def corruptions(content: bytes, count: int, seed: int, begin: int = 0) -> Iterator[Corrupted]:
    """So many damaged versions of a file, the same for a seed, each kind of damage equally often.

    Args:
        content: of the file.
        count: how many.
        seed: of the accidents.
        begin: what lies before is never damaged.
    """
    rng = random.Random(seed)
    while count:
        for accident in ACCIDENTS[: min(count, len(ACCIDENTS))]:
            how, rest, touched = accident(content[begin:], rng)
            damaged = content[:begin] + rest
            if damaged != content:
                yield Corrupted(f"{how} (from {begin} on)", damaged, [(a + begin, b + begin) for a, b in touched])
                count -= 1


class ReaderProcess:
    """A process that calls functions, so that one that crashes, hangs or fills the memory is no more than a failure."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,), daemon=True)
        self._process.start()
        there.close()
        self._answer(200.0, "starting")

    def __call__(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns; a ValueError or an OSError is raised here as well.

        Args:
            what: is done, for the message of a failure.
            function: of a module, and all that it takes and returns plain enough to be sent.
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
    with contextlib.suppress(ImportError, ValueError):  # where the system has such limits
        import resource

        import torch  # noqa: F401 (a build for CUDA reserves gigabytes by itself)

        most = psutil.Process().memory_info().vms + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    most = max(RESIDENT, _resident())  # Linux counts what the process that started this one had taken
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
        if (used := _resident()) > most:
            answer = ("failed", f"took {used:,} bytes of memory")
        connection.send(answer)


def _resident() -> int:
    with contextlib.suppress(ImportError):
        import resource
        import sys

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0


def check_error_line(error: Exception, path: Path, how: str) -> None:
    """What a user sees of a damaged file: one line that names it."""
    line = one_line(str(error))
    assert "\n" not in str(error), (how, line)
    assert len(line) < 400, (how, line)
    assert str(path) in line, (how, line)


def report(kind: str, counts: dict[str, int], started: float) -> None:
    """For those who look at what a fuzz test did (``pytest -s``)."""
    said = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
    print(f"{kind}: {sum(counts.values())} files in {time.monotonic() - started:.1f} s: {said}")
