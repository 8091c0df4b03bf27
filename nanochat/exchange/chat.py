"""How a conversation becomes tokens, as transformers wants to be told: a Jinja template and the special tokens."""

from __future__ import annotations

from typing import Any

from nanochat.tokenizer import Tokenizer

NAME = "tokenizer_config.json"
CHAT_TOKENS = ("<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>")

# nanochat's conversations: <|bos|>, then what the user and the assistant say in turn. A system message is no turn of
# its own but the beginning of the first user message. What the assistant says may consist of parts: text, code for
# the calculator, and what the calculator answered.
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- set first = namespace(text='') -%}
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {%- if not loop.first -%}{{- raise_exception('a system message can only come first') -}}{%- endif -%}
        {%- set first.text = message['content'] + '\\n\\n' -%}
    {%- elif message['role'] == 'user' -%}
        {{- '<|user_start|>' + first.text + message['content'] + '<|user_end|>' -}}
        {%- set first.text = '' -%}
    {%- elif message['role'] == 'assistant' -%}
        {%- if first.text -%}{{- raise_exception('after a system message comes the user') -}}{%- endif -%}
        {{- '<|assistant_start|>' -}}
        {%- if message['content'] is string -%}
            {{- message['content'] -}}
        {%- else -%}
            {%- for part in message['content'] -%}
                {%- if part['type'] == 'text' -%}
                    {{- part['text'] -}}
                {%- elif part['type'] == 'python' -%}
                    {{- '<|python_start|>' + part['text'] + '<|python_end|>' -}}
                {%- elif part['type'] == 'python_output' -%}
                    {{- '<|output_start|>' + part['text'] + '<|output_end|>' -}}
                {%- else -%}
                    {{- raise_exception('there is no part of type ' + part['type']) -}}
                {%- endif -%}
            {%- endfor -%}
        {%- endif -%}
        {{- '<|assistant_end|>' -}}
    {%- else -%}
        {{- raise_exception('there is no role ' + message['role'] + ': system, user or assistant') -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant_start|>' -}}{%- endif -%}
"""


def can_chat(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer has what a conversation is written with; one from elsewhere may not."""
    return all(name in tokenizer.special_tokens for name in CHAT_TOKENS)


def to_tokenizer_config(tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    """The content of ``tokenizer_config.json``."""
    chat = can_chat(tokenizer)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",  # whatever tokenizer.json says, and nothing added to it
        "model_max_length": context,
        "bos_token": "<|bos|>",
        "eos_token": "<|assistant_end|>" if chat else "<|bos|>",
        "pad_token": "<|bos|>",
        "clean_up_tokenization_spaces": False,  # decoding gives the text back as it was
        **({"chat_template": CHAT_TEMPLATE} if chat else {}),
    }
