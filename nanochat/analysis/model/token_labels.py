"""How tokens are written where a reader has to see what they are: blanks, line ends and stray bytes included."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

from matplotlib.font_manager import findfont, get_font

from nanochat.analysis.style import MONOSPACE
from nanochat.tokenizer import Tokenizer

SIGNS = {" ": "\N{OPEN BOX}", "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", "\t": "\N{RIGHTWARDS ARROW TO BAR}"}
TOKEN_KINDS = ("word", "inside a word", "capitals", "digits", "punctuation", "blank", "bytes", "special", "unused")


def token_label(tokenizer: Tokenizer, token: int) -> str:
    """A token as one line of visible characters: the open box is a blank; the hooked arrow, the end of a line."""
    name = _special_names(tokenizer).get(token)
    if name is not None:
        return name
    content = tokenizer.decode_bytes([token])
    if not content:
        return f"({token})"  # unused
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in content)
    return "".join(map(_visible, text))


def token_labels(tokenizer: Tokenizer, tokens: Iterable[int]) -> list[str]:
    return [token_label(tokenizer, int(token)) for token in tokens]


def token_kind(tokenizer: Tokenizer, token: int) -> str:
    """One of :data:`KINDS`: what a token is, roughly, for a legend of colours."""
    if token in _special_names(tokenizer):
        return "special"
    content = tokenizer.decode_bytes([token])
    if not content:
        return "unused"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes"
    if any(unicodedata.category(character) in ("Cc", "Cn", "Co") and character not in SIGNS for character in text):
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


def _visible(character: str) -> str:
    if character in SIGNS:
        return SIGNS[character]
    if not character.isprintable():
        return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    return character


def drawable(text: str) -> str:
    """The text with what the font of pictures cannot draw as escapes: a page has more letters than a picture."""
    known = _drawn()
    return "".join(c if ord(c) in known or c == "\n" else f"\\u{ord(c):04x}" for c in text)


@cache
def _drawn() -> frozenset[int]:
    return frozenset(get_font(findfont(MONOSPACE[0])).get_charmap())


def shortened(text: str, length: int) -> str:
    """At most so many characters."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
