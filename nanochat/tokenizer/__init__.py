"""The byte-level BPE tokenizer, and the rendering of conversations as token ids."""

from nanochat.tokenizer.conversation import Message, prompt_ids, render, render_prompt
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

__all__ = ["SPECIAL_TOKENS", "Message", "Tokenizer", "prompt_ids", "render", "render_prompt"]
