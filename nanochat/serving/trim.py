"""What is left out of a conversation that has become longer than the model can read: the oldest turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from nanochat.tokenizer import Tokenizer
from nanochat.tokenizer.conversation import Message, check_messages, render, render_prompt

LEAST_ANSWER = 16  # tokens that are always left for the answer
M = TypeVar("M", bound=Message)


def trim(tokenizer: Tokenizer, messages: Sequence[M], context: int, room: int) -> tuple[list[M], int]:
    """The end of a conversation that leaves room for an answer. A system message at its beginning stays.

    What is left out are whole turns, a question with its answer, from the oldest on: half of one would make the model
    read an answer to a question that it has not seen. The last question always stays; it may take some of the room.

    Args:
        tokenizer: the model's.
        messages: a conversation that ends with the user's message (:func:`nanochat.tokenizer.conversation.render`).
        context: the largest number of tokens that the model can read and write.
        room: how many of them are to be free for the answer.

    Returns:
        The messages that remain, and the number of those that do not.

    Raises:
        ValueError: if the messages are not a conversation to be answered, or the last question alone is too long.
    """
    checked = check_messages(messages)
    if checked[-1][0] != "user":
        raise ValueError(f"the last message must be the user's, not the {checked[-1][0]}'s: it is to be answered")
    system = list(messages[: checked[0][0] == "system"])
    begins = [n for n in range(len(system), len(messages)) if checked[n][0] == "user" or n == len(system)]

    # From the newest turn on, as long as they fit: what is older need not even be read.
    budget, start = context - room, len(messages)
    used = 2 + (len(render(tokenizer, [*system, {"role": "user", "content": ""}])[0]) - 3 if system else 0)
    for begin in reversed(begins):
        used += len(render(tokenizer, messages[begin:start])[0]) - 1  # each has its own <|bos|>
        if used > budget and start < len(messages):
            break
        start = begin
    # The system message becomes part of the first question, and there a merge of bytes may take a token more or less.
    kept = [*system, *messages[start:]]
    length = len(render_prompt(tokenizer, kept))
    while length > budget and any(begin > start for begin in begins):
        start = min(begin for begin in begins if begin > start)
        kept = [*system, *messages[start:]]
        length = len(render_prompt(tokenizer, kept))
    if length > context - min(room, LEAST_ANSWER):
        raise ValueError(
            f"the last message{' and the system message are' if system else ' is'} too long: {length} tokens, of "
            f"the {context} that this model can read and write together"
        )
    return kept, len(messages) - len(kept)
