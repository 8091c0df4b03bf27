"""Renders a conversation as token ids, with a loss mask that selects what the assistant writes.

The ids equal those of the chat template that ``export`` writes (``nanochat/exchange/chat_template.py``): ``<|bos|>``,
then alternately ``<|user_start|>`` ... ``<|user_end|>`` and ``<|assistant_start|>`` ... ``<|assistant_end|>``. A system
message becomes the beginning of the first user message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

Message = Mapping[str, Any]  # {"role": ..., "content": ...}

ROLES = ("system", "user", "assistant")
# Types of content parts: the special tokens around a part, and whether the assistant writes it.
PART_TYPES = {
    "text": (None, None, True),
    "python": ("<|python_start|>", "<|python_end|>", True),
    "python_output": ("<|output_start|>", "<|output_end|>", False),  # written by the calculator
}


def render(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """A whole conversation as token ids with a loss mask.

    Args:
        tokenizer: must have all special tokens of a conversation.
        messages: ``{"role": "system" | "user" | "assistant", "content": ...}``; the content is a string, or a list of
            parts ``{"type": "text" | "python" | "python_output", "text": ...}``; only an assistant message may have
            parts of the last two types. The first message may be a system message, followed by a user message.

    Returns:
        The ids, and a mask of the same length: 1 for tokens that the assistant writes (including calculator calls and
        ``<|assistant_end|>``), 0 for all others.

    Raises:
        ValueError: if the messages are not a valid conversation, or the tokenizer lacks a special token.
    """
    special = _special_tokens(tokenizer)
    ids, mask = [tokenizer.bos], [0]

    def add(new: Sequence[int], by_assistant: bool) -> None:
        ids.extend(new)
        mask.extend([int(by_assistant)] * len(new))

    system = ""
    for role, parts in check_messages(messages):
        if role == "system":
            system = _joined(parts) + "\n\n"
        elif role == "user":
            question = tokenizer.encode(system + _joined(parts))
            add([special["<|user_start|>"], *question, special["<|user_end|>"]], False)
            system = ""
        else:
            add([special["<|assistant_start|>"]], False)
            for kind, text in parts:
                start, end, by_assistant = PART_TYPES[kind]
                before, after = ([special[name]] if name is not None else [] for name in (start, end))
                add([*before, *tokenizer.encode(text), *after], by_assistant)
            add([special["<|assistant_end|>"]], True)
    return ids, mask


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """A conversation as a prompt for the assistant's next message: the ids end with ``<|assistant_start|>``.

    Args:
        tokenizer: must have all special tokens of a conversation.
        messages: as for :func:`render`; the last one must be a user message.

    Raises:
        ValueError: as for :func:`render`, and if the last message is not from the user.
    """
    ids, _ = render(tokenizer, messages)
    if messages[-1]["role"] != "user":
        role = messages[-1]["role"]
        raise ValueError(f"the last message must be the user's, not the {role}'s: the model answers the last message")
    return [*ids, tokenizer.special_tokens["<|assistant_start|>"]]


def prompt_ids(tokenizer: Tokenizer, text: str, is_chat: bool) -> list[int]:
    """The ids of a prompt: for a chat model, ``text`` as a user message; for a base model, a text to continue."""
    if is_chat:
        return render_prompt(tokenizer, [{"role": "user", "content": text}])
    return [tokenizer.bos, *tokenizer.encode(text)]


def check_messages(messages: Sequence[Message]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Validates messages and returns the role and the ``(type, text)`` parts of each; adjacent text parts are merged.

    Raises:
        ValueError: if the messages are not a valid conversation, with the number of the invalid one.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, (str, bytes)):
        raise ValueError("messages must be a list")
    if not messages:
        raise ValueError("there are no messages")
    checked: list[tuple[str, list[tuple[str, str]]]] = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise ValueError(f"message {number} must be an object with role and content")
        role = message.get("role")
        if role not in ROLES:
            raise ValueError(f"message {number} has the role {role!r}: it must be one of {', '.join(ROLES)}")
        if role == "system" and number > 1:
            raise ValueError(f"message {number} is a system message: it can only come first")
        if role != "user" and checked and checked[-1][0] == "system":
            raise ValueError("after a system message comes the user")
        if "content" not in message:
            raise ValueError(f"message {number} has no content")
        checked.append((role, _parts(message["content"], role, f"message {number}")))
    if checked[-1][0] == "system":
        raise ValueError("after a system message comes the user")
    return checked


def _parts(content: Any, role: str, where: str) -> list[tuple[str, str]]:
    if isinstance(content, str):
        _check_unicode(content, where)
        return [("text", content)]
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise ValueError(f"{where}: the content must be a string or a list of parts")
    parts: list[tuple[str, str]] = []
    for part in content:
        kind, text = (part.get("type"), part.get("text")) if isinstance(part, Mapping) else (None, None)
        if not isinstance(kind, str) or not isinstance(text, str):
            raise ValueError(f"{where}: each part of the content must have a type and a text")
        if kind not in PART_TYPES:
            raise ValueError(f"{where}: there is no part of type {kind!r}, only {', '.join(PART_TYPES)}")
        if kind != "text" and role != "assistant":
            raise ValueError(f"{where}: only the assistant's content may have a part of type {kind}")
        _check_unicode(text, where)
        if kind == "text" and parts and parts[-1][0] == "text":
            text = parts.pop()[1] + text  # encoded as one text, since BPE merges may cross the boundary
        parts.append((kind, text))
    return parts


def _joined(parts: Sequence[tuple[str, str]]) -> str:
    return "".join(text for _, text in parts)


def _check_unicode(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON escapes can express
        raise ValueError(f"{where}: the content is not valid Unicode") from error


def _special_tokens(tokenizer: Tokenizer) -> Mapping[str, int]:
    missing = [name for name in SPECIAL_TOKENS if name not in tokenizer.special_tokens]
    if missing:
        raise ValueError(f"this model was not trained for conversations: its tokenizer has no {', '.join(missing)}")
    return tokenizer.special_tokens
