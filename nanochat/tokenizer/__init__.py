"""Bytes to ids and back, and conversations to ids."""

from nanochat.tokenizer.conversation import Message, prompt_ids, render, render_prompt
from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

__all__ = ["SPECIAL_TOKENS", "Message", "Tokenizer", "prompt_ids", "render", "render_prompt"]
