"""What a decoder has read: the memory from which it goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from nanochat.inference.buffers import Buffers


class State:
    """The tokens of some streams, with their keys and values in every block.

    All streams are equally long. A state belongs to the decoder that made it (:meth:`Decoder.new_state`), and to one
    thread at a time: the numbers of a step stand in buffers of its own.

    Args:
        cache: (depth, 2, parts, streams, kv_heads / parts, length, head_dim), float32: the keys and the values, the
            heads in ``parts`` as the decoder's products deliver them.
        ids: the tokens read so far, for each stream.

    Attributes:
        keys: (depth, parts * streams * kv_heads / parts, head_dim, length), a view of the cache, as is
        values: (the same heads, length, head_dim), and
        slots: (depth, parts, streams, length, kv_heads / parts, 2, head_dim), in the order of a product's result.
    """

    def __init__(self, cache: Tensor, ids: list[list[int]]) -> None:
        self.cache, self.ids = cache, ids
        depth, _, _, _, _, length, head_dim = cache.shape
        heads = cache.view(depth, 2, -1, length, head_dim)
        self.keys, self.values = heads[:, 0].mT, heads[:, 1]
        self.slots = cache.permute(0, 2, 3, 5, 4, 1, 6)
        self.buffers: Buffers | None = None  # of a step, made when the first is taken

    @property
    def streams(self) -> int:
        return len(self.ids)

    @property
    def position(self) -> int:
        """Tokens read so far, in each stream."""
        return len(self.ids[0])

    @property
    def length(self) -> int:
        """Tokens that each stream may reach."""
        return self.cache.size(5)

    @torch.inference_mode()
    def repeated(self, times: int) -> State:
        """A copy in which each stream stands ``times`` times: for several continuations of what was read once."""
        size = list(self.cache.shape)
        size[3] *= times
        cache = self.cache.new_empty(size)
        cache[..., : self.position, :] = self.cache[..., : self.position, :].repeat_interleave(times, 3)
        return State(cache, [list(ids) for ids in self.ids for _ in range(times)])

    def clone(self) -> State:
        """A copy that goes its own way."""
        return self.repeated(1)

    def rewind(self, position: int) -> None:
        """Forgets all but the first tokens.

        Args:
            position: how many to keep in each stream.

        Raises:
            ValueError: if fewer have been read.
        """
        if not 0 <= position <= self.position:
            raise ValueError(f"cannot go back to token {position} of {self.position}")
        for ids in self.ids:
            del ids[position:]
