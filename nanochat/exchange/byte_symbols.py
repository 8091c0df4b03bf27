"""Bytes as printable characters: how GPT-2's vocabularies, and every byte-level tokenizer.json since, write them."""

from __future__ import annotations

# A byte that Latin-1 prints as a visible character stands for itself; the others, in their order, take the characters
# from U+0100 on (so a space is written as U+0120). GPT-2's encoder.py, 2019.
_VISIBLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
SYMBOLS = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(0x100 + i) for i, byte in enumerate(_HIDDEN)}
BYTES = {symbol: byte for byte, symbol in SYMBOLS.items()}


def as_symbols(token: bytes) -> str:
    """A token's bytes as one character each."""
    return "".join(SYMBOLS[byte] for byte in token)


def from_symbols(text: str) -> bytes:
    """The inverse.

    Raises:
        KeyError: if a character stands for no byte.
    """
    return bytes(BYTES[symbol] for symbol in text)
