"""Drops the oldest turns of a conversation that is longer than the model's context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from nanochat.tokenizer import Tokenizer
from nanochat.tokenizer.conversation import Message, check_messages, render, render_prompt

MIN_ANSWER = 16  # tokens that always remain free for the answer
M = TypeVar("M", bound=Message)


def trim_messages(tokenizer: Tokenizer, messages: Sequence[M], context: int, answer_tokens: int) -> tuple[list[M], int]:
    """The end of a conversation that leaves room for an answer. A system message at the beginning is kept.

    Whole turns are dropped, a question together with its answer, the oldest first: after half a turn the model would
    read an answer to a question that it has not seen. The last question is always kept, and may use a part of the
    room for the answer.

    Args:
        tokenizer: the model's tokenizer.
        messages: a conversation that ends with a user message (:func:`nanochat.tokenizer.conversation.render`).
        context: the model's context length, in tokens.
        answer_tokens: the number of tokens to keep free for the answer.

    Returns:
        The remaining messages, and the number of dropped ones.

    Raises:
        ValueError: if the messages do not form a conversation that ends with a user message, or the last message alone
            is too long.
    """
    checked = check_messages(messages)
    if checked[-1][0] != "user":
        raise ValueError(f"the last message must be the user's, not the {checked[-1][0]}'s")
    system = list(messages[: checked[0][0] == "system"])
    begins = [n for n in range(len(system), len(messages)) if checked[n][0] == "user" or n == len(system)]

    # From the newest turn backwards, as long as they fit: older turns need not be tokenized at all.
    budget, start = context - answer_tokens, len(messages)
    used = 2 + (len(render(tokenizer, [*system, {"role": "user", "content": ""}])[0]) - 3 if system else 0)
    for begin in reversed(begins):
        used += len(render(tokenizer, messages[begin:start])[0]) - 1  # each rendering has a <|bos|> of its own
        if used > budget and start < len(messages):
            break
        start = begin
    # The system message is rendered into the first question, where a merge of bytes may save or cost a token.
    kept = [*system, *messages[start:]]
    length = len(render_prompt(tokenizer, kept))
    while length > budget and any(begin > start for begin in begins):
        start = min(begin for begin in begins if begin > start)
        kept = [*system, *messages[start:]]
        length = len(render_prompt(tokenizer, kept))
    if length > context - min(answer_tokens, MIN_ANSWER):
        raise ValueError(
            f"the last message{' and the system message are' if system else ' is'} too long: {length} tokens; the "
            f"model's context is {context}, for the prompt and the answer together"
        )
    return kept, len(messages) - len(kept)
