"""trim_messages: which turns are dropped, and that the rest fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.serving.trim import trim_messages
from nanochat.tokenizer import Tokenizer
from nanochat.tokenizer.conversation import render_prompt

TOKENIZER = Tokenizer([bytes([i]) for i in range(256)], 265)  # a token for each byte
SYSTEM = {"role": "system", "content": "Be brief."}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_fitting_conversation_is_unchanged() -> None:
    messages = [SYSTEM, user("Hello"), assistant("Hi"), user("How are you?")]
    assert trim_messages(TOKENIZER, messages, 100, 20) == (messages, 0)


def test_oldest_turns_are_dropped_and_system_kept() -> None:
    messages = [SYSTEM, user("a" * 30), assistant("b" * 30), user("c" * 10), assistant("d" * 10), user("e")]
    kept, dropped = trim_messages(TOKENIZER, messages, 80, 20)
    assert (kept, dropped) == ([SYSTEM, *messages[3:]], 2)


def test_keeps_as_much_as_fits() -> None:
    messages = [user("aaaa"), assistant("bbbb"), user("cccc")]
    length = len(render_prompt(TOKENIZER, messages))
    assert trim_messages(TOKENIZER, messages, length + 20, 20)[1] == 0
    assert trim_messages(TOKENIZER, messages, length + 19, 20) == (messages[2:], 2)


def test_last_question_may_use_the_answers_room_but_not_all_of_it() -> None:
    assert trim_messages(TOKENIZER, [user("a" * 60)], 100, 50)[1] == 0
    with pytest.raises(ValueError, match="the last message is too long: 204 tokens; the model's context is 100"):
        trim_messages(TOKENIZER, [user("a"), assistant("b"), user("a" * 200)], 100, 50)
    with pytest.raises(ValueError, match="the system message are too long"):
        trim_messages(TOKENIZER, [{"role": "system", "content": "s" * 200}, user("a")], 100, 50)


def test_last_message_must_be_the_users() -> None:
    with pytest.raises(ValueError, match="must be the user's"):
        trim_messages(TOKENIZER, [user("a"), assistant("b")], 100, 50)


@given(
    st.lists(st.text(max_size=40), min_size=1, max_size=12),
    st.booleans(),
    st.integers(120, 400),
    st.integers(1, 60),
)
def test_result_fits_the_context(texts: list[str], system: bool, context: int, answer_tokens: int) -> None:
    turns = [user(text) if (len(texts) - n) % 2 else assistant(text) for n, text in enumerate(texts)]
    if system and turns[0]["role"] == "user":
        turns.insert(0, SYSTEM)
    tokenizer = Tokenizer.train(["one two one two\n\none"] * 3, 280)
    try:
        kept, dropped = trim_messages(tokenizer, turns, context, answer_tokens)
    except ValueError:
        assert len(render_prompt(tokenizer, [*turns[: turns[0] is SYSTEM], turns[-1]])) > context - answer_tokens
        return
    assert len(kept) + dropped == len(turns)
    assert kept[-1] is turns[-1]
    assert kept[0] is turns[0] or turns[0] is not SYSTEM
    last_alone = len(kept) == 1 + (turns[0] is SYSTEM)
    assert len(render_prompt(tokenizer, kept)) <= context - (min(answer_tokens, 16) if last_alone else answer_tokens)
