"""Bytes to ids and back."""

from nanochat.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

__all__ = ["SPECIAL_TOKENS", "Tokenizer"]
