"""The README.md of an exported folder: what the model is, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nanochat.exchange.chat import can_chat
from nanochat.model import GPT
from nanochat.tokenizer import Tokenizer

NAME = "README.md"

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags:
  - nanochat
---

# {title}

A small language model with nanochat's architecture, trained with nanochat on Lightning. It knows what it read and no
more: it continues text, makes things up, and has been neither tested nor filtered for any use beyond learning how
language models work.

| what | value |
|---|---|
{rows}

## Load it

transformers 5 and newer knows the architecture; no code comes with this folder, and none is needed.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({folder})
model = AutoModelForCausalLM.from_pretrained({folder})
ids = tokenizer("<|bos|>The", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=50)[0], skip_special_tokens=True))
```

- Every text began with `<|bos|>` when the model was trained, so begin a prompt with it: the tokenizer adds nothing.
- Prompt and answer together are at most {context:,} tokens long: the model has never seen longer rows.
- A special token's name within a text becomes that token. For text that others wrote, which must not give orders, ask
  for `tokenizer(text, split_special_tokens=True)`.
{chat}"""

CHAT = """\
- `tokenizer.apply_chat_template(messages, add_generation_prompt=True)` writes a conversation with the special tokens.
  Only a model that was trained on conversations as well answers sensibly.
"""


def to_card(title: str, gpt: GPT, tokenizer: Tokenizer, facts: Mapping[str, str]) -> str:
    """The model card.

    Args:
        title: what to call the model, which is also the folder's name.
        gpt: the model, possibly on the meta device.
        tokenizer: its tokenizer.
        facts: more that is known of it, such as how long it was trained.
    """
    shape = gpt.config
    grouped = f" ({shape.n_kv_head} key/value heads)" if shape.n_kv_head != shape.n_head else ""
    rows = {
        "parameters": f"{gpt.num_parameters:,}",
        "shape": f"depth {shape.n_layer}, width {shape.n_embd}, {shape.n_head} heads of {shape.head_dim}{grouped}",
        "context": f"{gpt.context:,} tokens",
        "vocabulary": f"{gpt.vocab_size:,} ids: {len(tokenizer.tokens):,} tokens of byte-level BPE, "
        f"{len(tokenizer.special_tokens)} special tokens",
        **facts,
    }
    return CARD.format(
        title=title,
        folder=json.dumps(title, ensure_ascii=False),
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        context=gpt.context,
        chat=CHAT if can_chat(tokenizer) else "",
    )
