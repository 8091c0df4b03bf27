"""A text that a model is reading or writing: its tokens, and what the model remembers of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nanochat.model import GPT


class Stream:
    """The tokens of one text with their keys and values in every block ("KV cache").

    Each stream has its own memory and its own length: any number of them can be read together (:class:`Decoder`),
    and each may begin and end when it likes.

    Args:
        gpt: the model that reads it.
        length: the largest number of tokens that it may reach. The memory is taken at once.
        dtype: of keys and values.

    Attributes:
        cache: (depth, kv_heads, 2, length, head_dim), keys before values, where the model is.
        position: number of tokens read so far.
    """

    def __init__(self, gpt: GPT, length: int, dtype: torch.dtype = torch.float32) -> None:
        config = gpt.config
        size = (config.n_layer, config.n_kv_head, 2, length, config.head_dim)
        self._take(np.zeros(length, np.int64), torch.empty(size, dtype=dtype, device=gpt.device), 0)

    def _take(self, ids: np.ndarray, cache: torch.Tensor, position: int) -> None:
        self._ids, self.cache, self.position = ids, cache, position
        self.ids_address, self.cache_address = ids.ctypes.data, cache.data_ptr()

    @property
    def length(self) -> int:
        """Tokens that it may reach."""
        return len(self._ids)

    @property
    def ids(self) -> list[int]:
        """The tokens read so far."""
        return list(map(int, self._ids[: self.position]))

    def extend(self, ids: Sequence[int]) -> None:
        """Takes in tokens, of which the decoder then reads."""
        self._ids[self.position : self.position + len(ids)] = ids
        self.position += len(ids)

    def fork(self) -> Stream:
        """A copy that goes its own way: a prompt read once serves several answers."""
        twin = Stream.__new__(Stream)
        cache = torch.empty_like(self.cache)
        cache[..., : self.position, :] = self.cache[..., : self.position, :]
        twin._take(self._ids.copy(), cache, self.position)
        return twin

    def free(self) -> None:
        """Gives back the memory of keys and values. No more of the text can then be read; its tokens stay."""
        self._take(self._ids, self.cache.new_empty(0), self.position)
