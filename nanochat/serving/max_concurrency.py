"""How many texts there is memory for at a time."""

from __future__ import annotations

import psutil

from nanochat.model import GPT

MOST = 32  # more of them would each become slow on a CPU
SHARE = 0.5  # of the free memory


def max_concurrency(gpt: GPT) -> int:
    """Texts whose keys and values, each as long as the context, fit into half of the memory that is free."""
    config = gpt.config
    each = 4 * config.n_layer * config.n_kv_head * 2 * config.sequence_len * config.head_dim
    return max(1, min(MOST, int(SHARE * psutil.virtual_memory().available / each)))
