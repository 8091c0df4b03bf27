"""The model card of an exported folder (README.md): describes the model and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nanochat.exchange.chat_template import can_chat
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

A small language model with nanochat's architecture, trained with nanochat on Lightning. It continues text and makes up
facts. It has not been tested or filtered for any use other than learning how language models work.

| property | value |
|---|---|
{rows}

## Load it

transformers 5 and newer implements the architecture, so no custom code is needed.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({folder})
model = AutoModelForCausalLM.from_pretrained({folder})
ids = tokenizer("<|bos|>The", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=50)[0], skip_special_tokens=True))
```

- Begin a prompt with `<|bos|>`, as every training text did: the tokenizer does not add it.
- Prompt and answer together have at most {context:,} tokens: the model was not trained on longer sequences.
- The name of a special token within a text becomes that token. For untrusted text use
  `tokenizer(text, split_special_tokens=True)`.
{chat}"""

CHAT = """\
- `tokenizer.apply_chat_template(messages, add_generation_prompt=True)` formats a conversation with the special tokens.
  Only a model that was also trained on conversations gives sensible answers.
"""


def to_card(title: str, gpt: GPT, tokenizer: Tokenizer, details: Mapping[str, str]) -> str:
    """The model card.

    Args:
        title: name of the model and of its folder.
        gpt: the model, possibly on the meta device.
        tokenizer: its tokenizer.
        details: further rows of the table, such as the training steps.
    """
    shape = gpt.config
    grouped = f" ({shape.n_kv_head} key/value heads)" if shape.n_kv_head != shape.n_head else ""
    rows = {
        "parameters": f"{gpt.num_parameters:,}",
        "shape": f"depth {shape.n_layer}, width {shape.n_embd}, {shape.n_head} heads of {shape.head_dim}{grouped}",
        "context": f"{gpt.context:,} tokens",
        "vocabulary": f"{gpt.vocab_size:,} ids: {len(tokenizer.tokens):,} tokens of byte-level BPE, "
        f"{len(tokenizer.special_tokens)} special tokens",
        **details,
    }
    return CARD.format(
        title=title,
        folder=json.dumps(title, ensure_ascii=False),
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        context=gpt.context,
        chat=CHAT if can_chat(tokenizer) else "",
    )
