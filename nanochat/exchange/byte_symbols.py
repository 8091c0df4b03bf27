"""The mapping of bytes to printable characters that GPT-2 and all byte-level tokenizer.json files use."""

from __future__ import annotations

# Bytes that are visible characters in Latin-1 map to themselves; the others, in order, map to the characters from
# U+0100 on (so a space is U+0120). GPT-2's encoder.py, 2019.
_VISIBLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
SYMBOLS = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(0x100 + i) for i, byte in enumerate(_HIDDEN)}
BYTES = {symbol: byte for byte, symbol in SYMBOLS.items()}


def to_symbols(token: bytes) -> str:
    """Maps each byte of a token to its character."""
    return "".join(SYMBOLS[byte] for byte in token)


def from_symbols(text: str) -> bytes:
    """The inverse of :func:`to_symbols`.

    Raises:
        KeyError: if a character does not stand for a byte.
    """
    return bytes(BYTES[symbol] for symbol in text)
