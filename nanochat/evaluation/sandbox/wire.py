"""Messages between the test process and the program process: length-prefixed JSON over pipes, with Python's types kept.

Nothing is unpickled or evaluated: whatever the program process sends is only data.
"""

from __future__ import annotations

import json
import os
from typing import Any

MAX_BYTES = 4_000_000  # of a message
LARGE = 2**53  # larger integers are sent in hexadecimal, which is fast and has no limit on digits


class TooLong(Exception):
    """A message is longer than any right answer."""


class Other:
    """Stands for a value that is not plain data; it compares unequal to everything."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def pack(value: Any) -> Any:
    """Encodes a value as JSON data."""
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, int):
        return int(value) if -LARGE < value < LARGE else {"int": hex(value)}
    if isinstance(value, list):
        return [pack(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[pack(key), pack(item)] for key, item in value.items()]}
    for kind, name in ((tuple, "tuple"), (set, "set"), (frozenset, "frozenset")):
        if isinstance(value, kind):
            return {name: [pack(item) for item in value]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    return {"other": type(value).__name__}


def unpack(value: Any) -> Any:
    """The inverse of :func:`pack`.

    Raises:
        ValueError, TypeError: if :func:`pack` does not give such data.
    """
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ValueError("not a message")
    ((kind, inside),) = value.items()
    if kind == "int":
        return int(inside, 16)
    if kind == "bytes":
        return bytes.fromhex(inside)
    if kind == "complex":
        return complex(*inside)
    if kind == "other":
        return Other(str(inside))
    if kind == "dict":
        return {unpack(key): unpack(item) for key, item in inside}
    if kind in ("tuple", "set", "frozenset"):
        made = (unpack(item) for item in inside)
        return tuple(made) if kind == "tuple" else set(made) if kind == "set" else frozenset(made)
    raise ValueError("not a message")


def send(pipe: int, message: Any) -> None:
    """Writes a message.

    Raises:
        TooLong: if it exceeds MAX_BYTES; nothing is sent then.
        OSError: if the reading end is closed.
    """
    data = json.dumps(message).encode()
    if len(data) > MAX_BYTES:
        raise TooLong
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(pipe, data) :]


def receive(pipe: int) -> Any:
    """Reads a message; None if the writing end is closed.

    Raises:
        TooLong: if it exceeds MAX_BYTES.
        ValueError, RecursionError: if it is not JSON.
    """
    head = read_exactly(pipe, 4)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > MAX_BYTES:
        raise TooLong
    data = read_exactly(pipe, length)
    return None if data is None else json.loads(data)


def read_exactly(pipe: int, length: int) -> bytes | None:
    """Reads exactly ``length`` bytes; None if the pipe ends before."""
    data = b""
    while len(data) < length:
        new = os.read(pipe, length - len(data))
        if not new:
            return None
        data += new
    return data
