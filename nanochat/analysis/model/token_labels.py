"""Labels of tokens with visible spaces, line ends and stray bytes; and a coarse classification for colours."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

from matplotlib.font_manager import findfont, get_font

from nanochat.analysis.style import MONOSPACE
from nanochat.tokenizer import Tokenizer

SPACE, LINE_END = "\N{OPEN BOX}", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
SYMBOLS = {" ": SPACE, "\n": LINE_END, "\t": "\N{RIGHTWARDS ARROW TO BAR}"}


def token_label(tokenizer: Tokenizer, token: int) -> str:
    """A token as one line of printable characters; "␣" is a space, "↵" a line end."""
    name = _special_names(tokenizer).get(token)
    if name is not None:
        return name
    content = tokenizer.decode_bytes([token])
    if not content:
        return f"({token})"  # an unused id
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in content)
    return "".join(map(_printable, text))


def token_labels(tokenizer: Tokenizer, tokens: Iterable[int]) -> list[str]:
    return [token_label(tokenizer, int(token)) for token in tokens]


def token_kind(tokenizer: Tokenizer, token: int) -> str:
    """The class of a token.

    Returns:
        "word", "inside a word", "capitals", "digits", "punctuation", "blank", "bytes", "special" or "unused".
    """
    if token in _special_names(tokenizer):
        return "special"
    content = tokenizer.decode_bytes([token])
    if not content:
        return "unused"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes"
    if any(unicodedata.category(character) in ("Cc", "Cn", "Co") and character not in SYMBOLS for character in text):
        return "bytes"
    core = text.strip()
    if not core:
        return "blank"
    if core.isdigit():
        return "digits"
    if not any(map(str.isalnum, core)):
        return "punctuation"
    if any(map(str.isupper, core)):
        return "capitals"
    return "word" if text[0].isspace() else "inside a word"


def _special_names(tokenizer: Tokenizer) -> dict[int, str]:
    return {token: name for name, token in tokenizer.special_tokens.items()}


def _printable(character: str) -> str:
    if character in SYMBOLS:
        return SYMBOLS[character]
    if not character.isprintable():
        return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    return character


def drawable(text: str) -> str:
    """The text with escapes for characters that the figures' monospace font lacks; a browser has more fonts."""
    known = _font_characters()
    return "".join(c if ord(c) in known or c == "\n" else f"\\u{ord(c):04x}" for c in text)


@cache
def _font_characters() -> frozenset[int]:
    return frozenset(get_font(findfont(MONOSPACE[0])).get_charmap())


def shortened(text: str, length: int) -> str:
    """The text with at most ``length`` characters, the last of them an ellipsis if it was longer."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
