"""The number of texts that the server decodes at the same time."""

from __future__ import annotations

import psutil

from nanochat.model import GPT

LIMIT = 32  # above this, each text becomes slow on a CPU
MEMORY_SHARE = 0.5  # of the available memory, for the KV caches


def max_concurrency(gpt: GPT) -> int:
    """The number of float32 KV caches of full context length that fit into half of the available memory, 1 to 32."""
    config = gpt.config
    cache_bytes = 4 * config.n_layer * config.n_kv_head * 2 * gpt.context * config.head_dim
    return max(1, min(LIMIT, int(MEMORY_SHARE * psutil.virtual_memory().available / cache_bytes)))
