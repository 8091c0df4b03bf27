"""What a transformer block is made of: the norm, attention and the MLP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat.model import fused
from nanochat.model.kv_cache import KVCache
from nanochat.model.rotary import rotate
from nanochat.model.shape import Shape


def norm(x: Tensor) -> Tensor:
    """RMSNorm (arXiv 1910.07467) over the last dimension, without learnable parameters, in the dtype of ``x``."""
    if fused.applies(x):
        return fused.norm(x)
    with torch.autocast(x.device.type, enabled=False):  # by which it would answer a GPU's bfloat16 in float32
        return F.rms_norm(x, (x.size(-1),))


def rotate_and_norm(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions and RMSNorm: (batch, time, heads, head_dim) to (batch, heads, time, head_dim)."""
    if fused.applies(x):
        return fused.rotate_and_norm(x, cos, sin)
    return norm(rotate(x, cos, sin)).transpose(1, 2)


class Attention(nn.Module):
    """Causal self-attention: each token looks at itself and at the tokens before it.

    Rotary positions, then a norm of queries and keys ("QK norm", arXiv 2010.04245), which bounds the attention
    scores and so keeps training calm at high learning rates. Several query heads may share one key/value head
    ("grouped-query attention", arXiv 2305.13245), which makes the KV cache smaller.

    Args:
        shape: the shape of the model.
        layer: which block this is, from 0: its place in the KV cache.
    """

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.kv_heads, shape.head_dim
        self.query = nn.Linear(shape.width, shape.heads * shape.head_dim, bias=False)
        self.key = nn.Linear(shape.width, shape.kv_heads * shape.head_dim, bias=False)
        self.value = nn.Linear(shape.width, shape.kv_heads * shape.head_dim, bias=False)
        self.output = nn.Linear(shape.heads * shape.head_dim, shape.width, bias=False)

    @property
    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """To queries, keys and values."""
        return self.query, self.key, self.value

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """Args:
            x: (batch, time, width), normed.
            cos: (time, head_dim / 2), of the positions of these tokens.
            sin: the same shape.
            cache: what came before these tokens; None if nothing did.

        Returns:
            (batch, time, width)
        """
        batch, time, _ = x.shape
        query, key, value = (project(x).view(batch, time, -1, self.head_dim) for project in self.projections)
        # (batch, heads, time, head_dim)
        query, key = rotate_and_norm(query, cos, sin), rotate_and_norm(key, cos, sin)
        value = value.transpose(1, 2)

        mask = None
        causal = time > 1
        if cache is not None:
            before = cache.position
            key, value = cache.append(self.layer, key, value)
            if before and causal:  # several new tokens after older ones: each sees all older and its own past
                mask = torch.ones(time, before + time, dtype=torch.bool, device=x.device).tril(before)
                causal = False
        if cache is None and fused.attends_by_products(query, key):
            out = fused.attention(query, key, value)
        else:
            out = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=self.kv_heads != self.heads
            )
        return self.output(out.transpose(1, 2).reshape(batch, time, -1))


class MLP(nn.Module):
    """Two matrices with the square of ReLU between (Primer, arXiv 2109.08668), four times as wide inside."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.expand = nn.Linear(shape.width, 4 * shape.width, bias=False)
        self.contract = nn.Linear(4 * shape.width, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) to the same shape."""
        if fused.applies(x):
            return fused.mlp(x, self.expand.weight, self.contract.weight)
        return self.contract(F.relu(self.expand(x)).square())


class Block(nn.Module):
    """Attention moves information between tokens, the MLP works on each token: both add to the stream."""

    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.attention = Attention(shape, layer)
        self.mlp = MLP(shape)

    @property
    def last_matrices(self) -> tuple[Tensor, Tensor]:
        """Those whose products are added to the stream: while they are zero, the block is the identity."""
        return self.attention.output.weight, self.mlp.contract.weight

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """(batch, time, width) to the same shape; the other arguments as in :class:`Attention`."""
        x = x + self.attention(norm(x), cos, sin, cache)
        return x + self.mlp(norm(x))
