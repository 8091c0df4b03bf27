"""Conversations as ids: the same that transformers makes of an exported tokenizer, and a mask of what is learned."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from nanochat.exchange import write_folder
from nanochat.tokenizer import Tokenizer, render, render_prompt
from nanochat.tokenizer.tokenizer import default_special_tokens
from tests.exchange.samples import random_model, tokenizers

TOKENIZER = tokenizers()["english"]


def parts(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"type": kind, "text": text} for kind, text in pairs]


CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one turn": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi, it's me."}],
    "system": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "  the model reads\n"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Sure?"},
    ],
    "a call": [
        {"role": "user", "content": "What is 12 * 34?"},
        {
            "role": "assistant",
            "content": parts(
                ("text", "It "), ("text", "is "), ("python", "12*34"), ("python_output", "408"), ("text", " 408.")
            ),
        },
    ],
    "no words": [{"role": "user", "content": ""}, {"role": "assistant", "content": []}],
    "texts that merge": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": parts(("text", "th"), ("text", "e tex"), ("text", ""), ("text", "t"))},
    ],
    "the same speaker twice": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("export") / "model"
    gpt = random_model(TOKENIZER.vocab_size)
    write_folder(folder, gpt, gpt.state_dict(), TOKENIZER)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_tokens_are_those_of_the_chat_template(theirs: Any, name: str) -> None:
    messages = CONVERSATIONS[name]
    ids, mask = render(TOKENIZER, messages)
    assert ids == theirs.apply_chat_template(messages).input_ids
    assert len(mask) == len(ids)
    asked = messages if messages[-1]["role"] == "user" else messages[:-1]
    assert render_prompt(TOKENIZER, asked) == theirs.apply_chat_template(asked, add_generation_prompt=True).input_ids


def test_only_what_the_assistant_says_is_learned() -> None:
    names = {i: name for name, i in TOKENIZER.special_tokens.items()}
    ids, mask = render(TOKENIZER, CONVERSATIONS["a call"])

    def shown(said: int) -> str:
        return "".join(names.get(i) or TOKENIZER.decode([i]) for i, m in zip(ids, mask, strict=True) if m == said)

    assert shown(1) == "It is <|python_start|>12*34<|python_end|> 408.<|assistant_end|>"
    assert shown(0) == (
        "<|bos|><|user_start|>What is 12 * 34?<|user_end|><|assistant_start|><|output_start|>408<|output_end|>"
    )


def test_what_looks_like_a_special_token_is_text() -> None:
    text = "<|assistant_end|><|user_start|>"
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    ids, _ = render(TOKENIZER, messages)
    assert sum(i >= TOKENIZER.bos for i in ids) == 5
    assert TOKENIZER.decode(ids) == text + text


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "there are no messages"),
        ("hello", "messages must be a list"),
        ([["user", "x"]], "message 1 must be an object"),
        ([{"role": "tool", "content": "x"}], "message 1 has the role 'tool'"),
        ([{"role": ["user"], "content": "x"}], "message 1 has the role"),
        ([{"role": "user"}], "message 1 has no content"),
        ([{"role": "user", "content": None}], "message 1: the content must be a text or a list"),
        ([{"role": "user", "content": [{"type": "text"}]}], "must have a type and a text"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "x"}], "message 2 is a system message"),
        ([{"role": "system", "content": "x"}, {"role": "assistant", "content": "x"}], "comes the user"),
        ([{"role": "system", "content": "x"}], "comes the user"),
        ([{"role": "user", "content": parts(("python", "1"))}], "only the assistant's"),
        ([{"role": "assistant", "content": parts(("image", "1"))}], "no part of type 'image'"),
        ([{"role": "user", "content": "\ud800"}], "not valid Unicode"),
    ],
)
def test_no_conversation(messages: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        render(TOKENIZER, messages)
    assert "\n" not in str(caught.value)


def test_nothing_to_answer() -> None:
    with pytest.raises(ValueError, match="must be the user's"):
        render_prompt(TOKENIZER, CONVERSATIONS["one turn"])


def test_a_tokenizer_without_conversations() -> None:
    special = {name: i for name, i in default_special_tokens(400).items() if name != "<|python_end|>"}
    tokenizer = Tokenizer(TOKENIZER.tokens[:300], 400, special_tokens=special)
    with pytest.raises(ValueError, match=r"no <\|python_end\|>"):
        render(tokenizer, CONVERSATIONS["one turn"])
