"""The model: plain torch, tensors in and tensors out. It knows nothing of Lightning, files or text."""

from nanochat.model.config import GPTConfig
from nanochat.model.gpt import GPT
from nanochat.model.kv_cache import KVCache
from nanochat.model.loss import IGNORE

__all__ = ["GPT", "IGNORE", "GPTConfig", "KVCache"]
