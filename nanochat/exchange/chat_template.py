"""tokenizer_config.json: the chat template (Jinja) and the special tokens."""

from __future__ import annotations

from typing import Any

from nanochat.tokenizer import Tokenizer

NAME = "tokenizer_config.json"
CHAT_TOKENS = ("<|user_start|>", "<|user_end|>", "<|assistant_start|>", "<|assistant_end|>")

# nanochat's conversations: <|bos|>, then alternating user and assistant messages. A system message is prepended to the
# first user message. An assistant message may consist of parts: text, an expression for the calculator, and its result.
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
    """Whether the tokenizer has the special tokens of conversations; an imported one may not."""
    return all(name in tokenizer.special_tokens for name in CHAT_TOKENS)


def to_tokenizer_config(tokenizer: Tokenizer, context: int) -> dict[str, Any]:
    """The content of ``tokenizer_config.json``."""
    chat = can_chat(tokenizer)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",  # uses tokenizer.json as it is
        "model_max_length": context,
        "bos_token": "<|bos|>",
        "eos_token": "<|assistant_end|>" if chat else "<|bos|>",
        "pad_token": "<|bos|>",
        "clean_up_tokenization_spaces": False,  # decoding must return the original text
        **({"chat_template": CHAT_TEMPLATE} if chat else {}),
    }
