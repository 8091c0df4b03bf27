"""The KV cache: keys and values of the tokens that the model has already read."""

from __future__ import annotations

import torch
from torch import Tensor

from nanochat.model.config import GPTConfig
from nanochat.model.layers import causal_attention


class KVCache:
    """Keys and values of every block, for up to ``length`` tokens of ``batch`` texts of one length.

    With it a model reads each token once: a step costs one token's work instead of the whole text's.

    Args:
        config: the shape of the model.
        batch: number of texts read together.
        length: the largest number of tokens a text may reach; the memory is taken at once.
        device: where the model is.
        dtype: of the model's activations.
    """

    def __init__(
        self,
        config: GPTConfig,
        batch: int,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        size = (config.n_layer, batch, config.n_kv_head, length, config.head_dim)
        self.keys = torch.empty(size, device=device, dtype=dtype)
        self.values = torch.empty(size, device=device, dtype=dtype)
        self.position = 0  # number of tokens read so far, the same for each text

    @property
    def length(self) -> int:
        return self.keys.size(3)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the new tokens' keys and values of one block, and returns those of all tokens.

        The position moves only when the whole model has read the tokens (:meth:`advance`), because every block
        stores the same tokens at the same place.

        Args:
            layer: which block, from 0.
            key: (batch, n_kv_head, time, head_dim) of the new tokens.
            value: the same shape.

        Returns:
            Keys and values of shape (batch, n_kv_head, position + time, head_dim): views, not copies.
        """
        end = self.position + key.size(2)
        assert end <= self.length, f"the cache holds {self.length} tokens, not {end}"
        self.keys[layer, :, :, self.position : end] = key
        self.values[layer, :, :, self.position : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """:meth:`append`, then attention of the new tokens to all; see :class:`~nanochat.model.layers.Cache`."""
        return causal_attention(query, *self.append(layer, key, value), mask)

    def advance(self, time: int) -> None:
        """Moves the position by ``time`` tokens, after every block has stored them."""
        self.position += time
