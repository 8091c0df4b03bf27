"""The model: plain torch, tensors in and tensors out. It knows nothing of Lightning, files or text."""

from nanochat.model.gpt import GPT
from nanochat.model.kv_cache import KVCache
from nanochat.model.loss import IGNORE
from nanochat.model.shape import Shape, resolve_shape

__all__ = ["GPT", "IGNORE", "KVCache", "Shape", "resolve_shape"]
