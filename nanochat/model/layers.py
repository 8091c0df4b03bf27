"""The parts of a transformer block: the norm, attention and the MLP."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat.model import fused
from nanochat.model.config import GPTConfig
from nanochat.model.rotary import rotate


class Cache(Protocol):
    """Keys and values of tokens that the model has read, of one text or of several.

    :class:`~nanochat.model.kv_cache.KVCache` is the plain one; generation has one of its own for texts of different
    lengths.
    """

    @property
    def position(self) -> int:
        """Number of tokens read so far, where that is the same for each text."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Stores the new tokens' keys and values and lets the new tokens attend to all tokens read so far.

        Args:
            layer: which block, from 0.
            query: (batch, n_head, time, head_dim) of the new tokens.
            key: (batch, n_kv_head, time, head_dim) of the new tokens.
            value: the same shape.
            mask: as in :meth:`~nanochat.model.GPT.trunk`.

        Returns:
            (batch, n_head, time, head_dim)
        """


def norm(x: Tensor) -> Tensor:
    """RMSNorm (arXiv 1910.07467) over the last dimension, without learnable parameters, in the dtype of ``x``."""
    if fused.applies(x):
        return fused.norm(x)
    with torch.autocast(x.device.type, enabled=False):  # autocast would return float32 for a GPU's bfloat16
        return F.rms_norm(x, (x.size(-1),))


def rotate_and_norm(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions and RMSNorm: (batch, time, heads, head_dim) to (batch, heads, time, head_dim)."""
    if fused.applies(x):
        return fused.rotate_and_norm(x, cos, sin)
    return norm(rotate(x, cos, sin)).transpose(1, 2)


def causal_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of the last tokens of a text to all of its tokens.

    Args:
        query: (batch, n_head, new, head_dim) of the last ``new`` tokens.
        key: (batch, n_kv_head, time, head_dim) of all tokens, from the first on.
        value: the same shape.
        mask: boolean, broadcastable to (batch, n_head, new, time); if None, a token sees itself and all before it.

    Returns:
        (batch, n_head, new, head_dim)
    """
    new, time = query.size(2), key.size(2)
    if mask is None and new == time and fused.attends_by_products(query, key):
        return fused.attention(query, key, value)
    causal = mask is None and new == time and time > 1
    if mask is None and 1 < new < time:
        mask = torch.ones(new, time, dtype=torch.bool, device=query.device).tril(time - new)
    grouped = query.size(1) != key.size(1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=grouped)


class Attention(nn.Module):
    """Causal self-attention: each token looks at itself and at the tokens before it.

    Rotary positions, then a norm of queries and keys ("QK norm", arXiv 2010.04245), which bounds the attention
    scores and so keeps training calm at high learning rates. Several query heads may share one key/value head
    ("grouped-query attention", arXiv 2305.13245), which makes the KV cache smaller.

    Args:
        config: the shape of the model.
        layer: which block this is, from 0: its place in the KV cache.
    """

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head, self.n_kv_head, self.head_dim = config.n_head, config.n_kv_head, config.head_dim
        self.c_q = nn.Linear(config.n_embd, config.n_head * config.head_dim, bias=False)
        self.c_k = nn.Linear(config.n_embd, config.n_kv_head * config.head_dim, bias=False)
        self.c_v = nn.Linear(config.n_embd, config.n_kv_head * config.head_dim, bias=False)
        self.c_proj = nn.Linear(config.n_head * config.head_dim, config.n_embd, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Args:
            x: (batch, time, n_embd), normed.
            cos: (time, head_dim / 2) or (batch, time, head_dim / 2), of the tokens' positions.
            sin: the same shape.
            mask: which keys each token sees; None for itself and all before it.
            cache: keys and values of the tokens before these; None if there are none.

        Returns:
            (batch, time, n_embd)
        """
        query, key, value = (c(x).unflatten(-1, (-1, self.head_dim)) for c in (self.c_q, self.c_k, self.c_v))
        # (batch, time, heads, head_dim) to (batch, heads, time, head_dim)
        query, key, value = rotate_and_norm(query, cos, sin), rotate_and_norm(key, cos, sin), value.transpose(1, 2)
        if cache is None:
            y = causal_attention(query, key, value, mask)
        else:
            y = cache.attend(self.layer, query, key, value, mask)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two matrices with the square of ReLU between (Primer, arXiv 2109.08668), four times as wide inside."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, n_embd) to the same shape."""
        return self.c_proj(F.relu(self.c_fc(x)).square())


class Block(nn.Module):
    """Attention moves information between tokens, the MLP works on each token: both add to the residual stream."""

    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.attn = Attention(config, layer)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """(batch, time, n_embd) to the same shape; the other arguments as in :class:`Attention`."""
        x = x + self.attn(norm(x), cos, sin, mask, cache)
        return x + self.mlp(norm(x))
