"""The memory of a decoding model: keys and values of the tokens it has already read."""

from __future__ import annotations

import torch
from torch import Tensor

from nanochat.model.shape import Shape


class KVCache:
    """Keys and values of every block, for up to ``length`` tokens of ``batch`` sequences.

    With it a model reads each token once: a step costs one token's work instead of the whole text's.

    Args:
        shape: the shape of the model.
        batch: number of sequences decoded together.
        length: the largest number of tokens a sequence may reach; the memory is taken at once.
        device: where the model is.
        dtype: of the model's activations.
    """

    def __init__(
        self,
        shape: Shape,
        batch: int,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        size = (shape.depth, batch, shape.kv_heads, length, shape.head_dim)
        self.keys = torch.empty(size, device=device, dtype=dtype)
        self.values = torch.empty(size, device=device, dtype=dtype)
        self.position = 0  # number of tokens read so far, the same for each sequence

    @property
    def length(self) -> int:
        return self.keys.size(3)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the new tokens' keys and values of one block, and returns all that it has seen.

        The position moves only when the whole model has read the tokens (:meth:`advance`), because every block
        stores the same tokens at the same place.

        Args:
            layer: which block, from 0.
            key: (batch, kv_heads, time, head_dim) of the new tokens.
            value: the same shape.

        Returns:
            Keys and values of shape (batch, kv_heads, position + time, head_dim): views, not copies.
        """
        end = self.position + key.size(2)
        assert end <= self.length, f"the cache holds {self.length} tokens, not {end}"
        self.keys[layer, :, :, self.position : end] = key
        self.values[layer, :, :, self.position : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, time: int) -> None:
        """Moves the position by ``time`` tokens, after every block has stored them."""
        self.position += time
