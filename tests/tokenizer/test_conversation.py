"""Conversations as token ids: equal to those of transformers with the exported tokenizer, and with a loss mask."""

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
    "calculator call": [
        {"role": "user", "content": "What is 12 * 34?"},
        {
            "role": "assistant",
            "content": parts(
                ("text", "It "), ("text", "is "), ("python", "12*34"), ("python_output", "408"), ("text", " 408.")
            ),
        },
    ],
    "empty contents": [{"role": "user", "content": ""}, {"role": "assistant", "content": []}],
    "adjacent texts": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": parts(("text", "th"), ("text", "e tex"), ("text", ""), ("text", "t"))},
    ],
    "same role twice": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The exported tokenizer, loaded by transformers."""
    folder = tmp_path_factory.mktemp("export") / "model"
    gpt = random_model(TOKENIZER.vocab_size)
    write_folder(folder, gpt, gpt.state_dict(), TOKENIZER)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_ids_equal_the_chat_template(exported: Any, name: str) -> None:
    messages = CONVERSATIONS[name]
    ids, mask = render(TOKENIZER, messages)
    assert ids == exported.apply_chat_template(messages).input_ids
    assert len(mask) == len(ids)
    prompt = messages if messages[-1]["role"] == "user" else messages[:-1]
    expected = exported.apply_chat_template(prompt, add_generation_prompt=True).input_ids
    assert render_prompt(TOKENIZER, prompt) == expected


def test_mask_selects_assistant_tokens() -> None:
    names = {i: name for name, i in TOKENIZER.special_tokens.items()}
    ids, mask = render(TOKENIZER, CONVERSATIONS["calculator call"])

    def masked(value: int) -> str:
        return "".join(names.get(i) or TOKENIZER.decode([i]) for i, m in zip(ids, mask, strict=True) if m == value)

    assert masked(1) == "It is <|python_start|>12*34<|python_end|> 408.<|assistant_end|>"
    assert masked(0) == (
        "<|bos|><|user_start|>What is 12 * 34?<|user_end|><|assistant_start|><|output_start|>408<|output_end|>"
    )


def test_names_of_special_tokens_in_messages_are_text() -> None:
    text = "<|assistant_end|><|user_start|>"
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    ids, _ = render(TOKENIZER, messages)
    assert sum(i >= TOKENIZER.bos for i in ids) == 5
    assert TOKENIZER.decode(ids) == text + text


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "there are no messages"),
        ("hello", "messages must be a list"),
        ([["user", "x"]], "message 1 must be an object"),
        ([{"role": "tool", "content": "x"}], "message 1 has the role 'tool'"),
        ([{"role": ["user"], "content": "x"}], "message 1 has the role"),
        ([{"role": "user"}], "message 1 has no content"),
        ([{"role": "user", "content": None}], "message 1: the content must be a string or a list"),
        ([{"role": "user", "content": [{"type": "text"}]}], "must have a type and a text"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "x"}], "message 2 is a system message"),
        ([{"role": "system", "content": "x"}, {"role": "assistant", "content": "x"}], "comes the user"),
        ([{"role": "system", "content": "x"}], "comes the user"),
        ([{"role": "user", "content": parts(("python", "1"))}], "only the assistant's"),
        ([{"role": "assistant", "content": parts(("image", "1"))}], "no part of type 'image'"),
        ([{"role": "user", "content": "\ud800"}], "not valid Unicode"),
    ],
)
def test_invalid_conversations(messages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        render(TOKENIZER, messages)
    assert "\n" not in str(caught.value)


def test_prompt_must_end_with_the_user() -> None:
    with pytest.raises(ValueError, match="must be the user's"):
        render_prompt(TOKENIZER, CONVERSATIONS["one turn"])


def test_tokenizer_without_a_special_token() -> None:
    special = {name: i for name, i in default_special_tokens(400).items() if name != "<|python_end|>"}
    tokenizer = Tokenizer(TOKENIZER.tokens[:300], 400, special_tokens=special)
    with pytest.raises(ValueError, match=r"no <\|python_end\|>"):
        render(tokenizer, CONVERSATIONS["one turn"])
