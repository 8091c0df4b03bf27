"""The forward pass over texts with a common prefix: the prefix goes through the model once.

The choices of a question mostly differ in their last words only. Laid out as one row, the shared prefix first and then
each text's own suffix, they form a tree: each token sees the prefix and its own suffix, and has the position that it
has in its text. The result at each token is that of the model's own forward pass, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nanochat.model import GPT

PADDING = -1  # in place of the number of a text


class Tree(NamedTuple):
    """Texts with the same beginning.

    Attributes:
        texts: the tokens of each.
        prefix: number of leading tokens that all of them share and that go through the model once.
    """

    texts: Sequence[Sequence[int]]
    prefix: int

    @property
    def size(self) -> int:
        """Tokens that go through the model."""
        return self.prefix + sum(len(text) - self.prefix for text in self.texts)

    def row_index(self, text: int, position: int) -> int:
        """Where in the row a token of a text stands."""
        before = sum(len(other) - self.prefix for other in self.texts[:text])
        return position if position < self.prefix else position + before


def pays(texts: Sequence[Sequence[int]], prefix: int, width: int) -> bool:
    """Whether a tree takes clearly less work than the texts one by one.

    The matrices take 24 width^2 operations per token and block. Attention takes 4 width for each pair of tokens; in a
    tree also for the masked pairs: every token that a suffix's token might see.
    """
    total = Tree(texts, prefix).size
    tree = 24 * width**2 * total + 4 * width * (prefix**2 // 2 + (total - prefix) * total)
    alone = sum(24 * width**2 * len(text) + 4 * width * len(text) ** 2 // 2 for text in texts)
    return tree < 0.9 * alone


def hidden(gpt: GPT, trees: Sequence[Tree]) -> Tensor:
    """:meth:`nanochat.model.GPT.hidden` of several trees.

    The tokens of the shortest prefix go first, by the model's plain causal attention, and leave their keys and values
    in a KV cache. All other tokens follow, with a mask.

    Args:
        gpt: a whole model.
        trees: none of whose texts is longer than the context.

    Returns:
        (trees, largest size, n_embd); :meth:`Tree.row_index` gives a token's index in its row.
    """
    count, size = len(trees), max(tree.size for tree in trees)
    ids = torch.zeros(count, size, dtype=torch.int64)
    positions = torch.zeros(count, size, dtype=torch.int64)
    owner = torch.full((count, size), PADDING)  # 0 for the prefix, n for the suffix of the n-th text
    for row, tree in enumerate(trees):
        begin = 0
        for number, text in enumerate(tree.texts):
            first = tree.prefix if number else 0  # the first text brings the prefix along
            end = begin + len(text) - first
            ids[row, begin:end] = torch.tensor(text[first:])
            positions[row, begin:end] = torch.arange(first, len(text))
            owner[row, begin:end] = number + 1
            begin = end
        owner[row, : tree.prefix] = 0
    prefix = min(tree.prefix for tree in trees)
    index = torch.arange(size)
    visible = (owner[:, None, :] == 0) | (owner[:, None, :] == owner[:, prefix:, None])
    visible &= index <= index[prefix:, None]  # in the row's order a token stands behind all that it sees
    mask = visible[:, None].to(gpt.device)  # (trees, 1, size - prefix, size)

    x, positions = gpt.embed(ids.to(gpt.device)), positions.to(gpt.device)
    cache = gpt.new_cache(count, size)
    first_part = gpt.trunk(x[:, :prefix], cache=cache)
    cache.advance(prefix)
    second_part = gpt.trunk(x[:, prefix:], positions[:, prefix:], mask, cache)
    return torch.cat((first_part, second_part), 1)
