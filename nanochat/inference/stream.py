"""One sequence of tokens and its KV cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nanochat.model import GPT


class Stream:
    """The tokens of one sequence, with their keys and values in every block (its KV cache).

    Each stream has its own memory and its own length. A :class:`Decoder` can read any number of them in one batch, and
    streams may be added or dropped between steps.

    Args:
        gpt: the model.
        length: the maximum number of tokens. The memory for all of them is allocated at once.
        dtype: of keys and values.

    Attributes:
        cache: (depth, kv_heads, 2, length, head_dim), keys before values, on the model's device.
        position: number of tokens read so far.
    """

    def __init__(self, gpt: GPT, length: int, dtype: torch.dtype = torch.float32) -> None:
        config = gpt.config
        size = (config.n_layer, config.n_kv_head, 2, length, config.head_dim)
        self._set(np.zeros(length, np.int64), torch.empty(size, dtype=dtype, device=gpt.device), 0)

    def _set(self, ids: np.ndarray, cache: torch.Tensor, position: int) -> None:
        self._ids, self.cache, self.position = ids, cache, position
        self.ids_address, self.cache_address = ids.ctypes.data, cache.data_ptr()

    @property
    def length(self) -> int:
        """The maximum number of tokens."""
        return len(self._ids)

    @property
    def ids(self) -> list[int]:
        """The tokens read so far."""
        return list(map(int, self._ids[: self.position]))

    def extend(self, ids: Sequence[int]) -> None:
        """Appends tokens and advances the position; the decoder then fills the cache for them."""
        self._ids[self.position : self.position + len(ids)] = ids
        self.position += len(ids)

    def fork(self) -> Stream:
        """An independent copy: several continuations of a prompt share the work of reading it."""
        copy = Stream.__new__(Stream)
        cache = torch.empty_like(self.cache)
        cache[..., : self.position, :] = self.cache[..., : self.position, :]
        copy._set(self._ids.copy(), cache, self.position)
        return copy

    def free(self) -> None:
        """Releases the KV cache. The tokens stay, but the stream cannot be read on."""
        self._set(self._ids, self.cache.new_empty(0), self.position)
