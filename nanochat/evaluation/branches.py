"""The forward pass over texts that begin alike: what they share goes through the model once.

The choices of a question mostly differ in their last words only. Laid out as one row, the shared trunk first and then
what each text has of its own, they are a tree: each token sees the trunk and its own branch, and stands at the position
that it has in its text. What comes out at each token is that of the model's own forward pass, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model import GPT
from nanochat.model.layers import Attention, Block, norm

NOBODY = -1  # the branch of padding


class Tree(NamedTuple):
    """Texts with the same beginning.

    Attributes:
        texts: the tokens of each.
        trunk: how many tokens they share at least, and go through the model once.
    """

    texts: Sequence[Sequence[int]]
    trunk: int

    @property
    def size(self) -> int:
        """Tokens that go through the model."""
        return self.trunk + sum(len(text) - self.trunk for text in self.texts)

    def place(self, text: int, position: int) -> int:
        """Where in the row a token of a text stands."""
        before = sum(len(other) - self.trunk for other in self.texts[:text])
        return position if position < self.trunk else position + before


def pays(texts: Sequence[Sequence[int]], trunk: int, width: int) -> bool:
    """Whether a tree takes clearly less work than the texts one by one.

    The matrices take 24 width^2 operations a token and block. Attention takes 4 width for each pair of tokens; in a
    tree also for the pairs that are masked: all that a branch's token might see.
    """
    total = Tree(texts, trunk).size
    tree = 24 * width**2 * total + 4 * width * (trunk**2 // 2 + (total - trunk) * total)
    alone = sum(24 * width**2 * len(text) + 4 * width * len(text) ** 2 // 2 for text in texts)
    return tree < 0.9 * alone


def hidden(gpt: GPT, trees: Sequence[Tree]) -> Tensor:
    """:meth:`nanochat.model.GPT.hidden` of several trees.

    Args:
        gpt: a whole model.
        trees: none of whose texts is longer than the context.

    Returns:
        (trees, largest size, width); what a token's place is, :meth:`Tree.place` says.
    """
    device, rows, size = gpt.embedding.weight.device, len(trees), max(tree.size for tree in trees)
    ids = torch.zeros(rows, size, dtype=torch.int64)
    positions = torch.zeros(rows, size, dtype=torch.int64)
    branches = torch.full((rows, size), NOBODY)
    for row, tree in enumerate(trees):
        begin = 0
        for number, text in enumerate(tree.texts):
            first = tree.trunk if number else 0  # the first text brings the trunk along
            end = begin + len(text) - first
            here = slice(begin, end)
            ids[row, here] = torch.tensor(text[first:])
            positions[row, here] = torch.arange(first, len(text))
            branches[row, here] = number + 1
            begin = end
        branches[row, : tree.trunk] = 0
    trunk = min(tree.trunk for tree in trees)
    later = torch.arange(size)
    seen = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, trunk:, None])
    seen &= later <= later[trunk:, None]
    # in the row's order a token stands behind all that it sees, so that "not later" is enough within trunk and branch
    x = norm(gpt.embedding(ids.to(device)).to(gpt.activation_dtype))
    where = positions.to(device)
    cos, sin = gpt.cos[where].to(x.dtype), gpt.sin[where].to(x.dtype)  # (rows, size, head_dim / 2)
    mask = seen[:, None].to(device)  # (rows, 1, size - trunk, size)
    for block in gpt.blocks:
        assert isinstance(block, Block)
        x = x + _attention(block.attention, norm(x), cos[:, :, None], sin[:, :, None], mask)
        x = x + block.mlp(norm(x))
    return norm(x)


def _attention(attention: Attention, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
    """Of the tokens within the shortest trunk by the quick causal kernel, of the others by the mask."""
    rows, size, _ = x.shape
    query, key, value = (project(x).view(rows, size, -1, attention.head_dim) for project in attention.projections)
    query, key = _turned(query, cos, sin).transpose(1, 2), _turned(key, cos, sin).transpose(1, 2)
    value = value.transpose(1, 2)  # (rows, kv_heads, size, head_dim)
    grouped = attention.heads != attention.kv_heads
    trunk = size - mask.size(2)
    parts = []
    if trunk:
        first = (query[:, :, :trunk], key[:, :, :trunk], value[:, :, :trunk])
        parts.append(F.scaled_dot_product_attention(*first, is_causal=True, enable_gqa=grouped))
    if trunk < size:
        rest = (query[:, :, trunk:], key, value)
        parts.append(F.scaled_dot_product_attention(*rest, attn_mask=mask, enable_gqa=grouped))
    y = torch.cat(parts, 2) if len(parts) > 1 else parts[0]
    return attention.output(y.transpose(1, 2).reshape(rows, size, -1))


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, a row of them for each text, and the norm: (rows, size, heads, head_dim), the same shape."""
    x1, x2 = x.chunk(2, dim=-1)
    return norm(torch.cat((x1 * cos + x2 * sin, x2 * cos - x1 * sin), dim=-1))
