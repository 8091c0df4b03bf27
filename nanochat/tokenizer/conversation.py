"""A conversation as token ids, and which of them the assistant says: what it is to learn, and nothing else.

The ids are those of the chat template that ``export`` writes (``nanochat/exchange/chat_template.py``):
``<|bos|>``, then in turn ``<|user_start|>`` ... ``<|user_end|>`` and ``<|assistant_start|>`` ... ``<|assistant_end|>``.
A system message is the beginning of the first user message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

Message = Mapping[str, Any]  # {"role": ..., "content": ...}, as JSON has it

ROLES = ("system", "user", "assistant")
# The special tokens around a part of what the assistant says, and whether the assistant says the part itself.
PARTS = {
    "text": (None, None, True),
    "python": ("<|python_start|>", "<|python_end|>", True),
    "python_output": ("<|output_start|>", "<|output_end|>", False),  # the calculator says it
}


def render(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """A whole conversation as ids.

    Args:
        tokenizer: one with the special tokens of a conversation.
        messages: ``{"role": "system" | "user" | "assistant", "content": ...}``; the content is a text, or a list of
            parts ``{"type": "text" | "python" | "python_output", "text": ...}``, of which the last two are the
            assistant's only. A system message may come first, and a user message after it.

    Returns:
        The ids, and a mask of the same length: 1 for what the assistant says (its calls of the calculator and
        ``<|assistant_end|>`` included), 0 for what it is told.

    Raises:
        ValueError: if the messages are not a conversation, or the tokenizer knows none, in one line.
    """
    special = _special_tokens(tokenizer)
    ids, mask = [tokenizer.bos], [0]

    def add(new: Sequence[int], said: bool) -> None:
        ids.extend(new)
        mask.extend([int(said)] * len(new))

    system = ""
    for role, parts in check_messages(messages):
        if role == "system":
            system = _joined(parts) + "\n\n"
        elif role == "user":
            asked = tokenizer.encode(system + _joined(parts))
            add([special["<|user_start|>"], *asked, special["<|user_end|>"]], False)
            system = ""
        else:
            add([special["<|assistant_start|>"]], False)
            for kind, text in parts:
                begin, end, said = PARTS[kind]
                around = [[special[name]] if name is not None else [] for name in (begin, end)]
                add([*around[0], *tokenizer.encode(text), *around[1]], said)
            add([special["<|assistant_end|>"]], True)
    return ids, mask


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """A conversation as ids that ask for the assistant's answer: they end with ``<|assistant_start|>``.

    Args:
        tokenizer: one with the special tokens of a conversation.
        messages: as for :func:`render`; the last one is the user's.

    Raises:
        ValueError: as for :func:`render`, and if there is nothing to answer.
    """
    ids, _ = render(tokenizer, messages)
    if messages[-1]["role"] != "user":
        raise ValueError(f"the last message must be the user's, not the {messages[-1]['role']}'s: it is to be answered")
    return [*ids, tokenizer.special_tokens["<|assistant_start|>"]]


def prompt_ids(tokenizer: Tokenizer, text: str, is_chat: bool) -> list[int]:
    """A question as ids to a model that was fine-tuned to answer; to another one, the beginning of a text."""
    if is_chat:
        return render_prompt(tokenizer, [{"role": "user", "content": text}])
    return [tokenizer.bos, *tokenizer.encode(text)]


def check_messages(messages: Sequence[Message]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The role of each message and its parts, each a type and a text; texts that follow each other become one.

    Raises:
        ValueError: if the messages are not a conversation, saying which one and why.
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
        return [("text", _unicode(content, where))]
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise ValueError(f"{where}: the content must be a text or a list of parts")
    parts: list[tuple[str, str]] = []
    for part in content:
        kind, text = (part.get("type"), part.get("text")) if isinstance(part, Mapping) else (None, None)
        if not isinstance(kind, str) or not isinstance(text, str):
            raise ValueError(f"{where}: each part of the content must have a type and a text")
        if kind not in PARTS:
            raise ValueError(f"{where}: there is no part of type {kind!r}, only {', '.join(PARTS)}")
        if kind != "text" and role != "assistant":
            raise ValueError(f"{where}: only the assistant's content may have a part of type {kind}")
        _unicode(text, where)
        if kind == "text" and parts and parts[-1][0] == "text":
            text = parts.pop()[1] + text  # a merge of bytes may reach across
        parts.append((kind, text))
    return parts


def _joined(parts: Sequence[tuple[str, str]]) -> str:
    return "".join(text for _, text in parts)


def _unicode(text: str, where: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can write as an escape
        raise ValueError(f"{where}: the content is not valid Unicode") from error
    return text


def _special_tokens(tokenizer: Tokenizer) -> Mapping[str, int]:
    missing = [name for name in SPECIAL_TOKENS if name not in tokenizer.special_tokens]
    if missing:
        raise ValueError(f"this model was not made for conversations: its tokenizer has no {', '.join(missing)}")
    return tokenizer.special_tokens
