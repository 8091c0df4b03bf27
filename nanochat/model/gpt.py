"""The GPT: nanochat's decoder-only transformer, as published in October 2025."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat.model.kv_cache import KVCache
from nanochat.model.layers import Block, norm
from nanochat.model.loss import softcap, token_losses, weighted_loss
from nanochat.model.rotary import rotation_table
from nanochat.model.shape import resolve_shape


class GPT(nn.Module):
    """Reads token ids and says, at each place, what the next token may be.

    The way of the data: ids -> embedding -> norm -> ``depth`` blocks -> norm -> head -> capped logits.
    Embedding and head are separate matrices; there are no biases and no dropout anywhere.

    Args:
        depth: number of transformer blocks.
        vocab_size: number of token ids.
        context: the longest row of tokens that the model reads.
        width: size of the residual stream; 64 x depth if None.
        heads: number of query heads; heads of 64 (128 above width 768) if None.
        kv_heads: number of key and value heads, fewer than ``heads`` for grouped-query attention.

    Raises:
        ValueError: if the sizes do not fit each other.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        depth: int,
        vocab_size: int,
        context: int,
        width: int | None = None,
        heads: int | None = None,
        kv_heads: int | None = None,
    ) -> None:
        super().__init__()
        if vocab_size < 1:
            raise ValueError(f"the vocabulary must hold at least one token, not {vocab_size}")
        if context < 1:
            raise ValueError(f"the context must be at least one token, not {context}")
        self.shape = resolve_shape(depth, width, heads, kv_heads)
        self.vocab_size = vocab_size
        self.context = context
        self.embedding = nn.Embedding(vocab_size, self.shape.width)
        self.blocks = nn.ModuleList(Block(self.shape, layer) for layer in range(depth))
        self.head = nn.Linear(self.shape.width, vocab_size, bias=False)
        # buffers move with the model; persistent=False: a checkpoint need not carry what can be computed
        cos, sin = rotation_table(context, self.shape.head_dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.compiled_block: Callable[..., Tensor] | None = None  # a block of any layer, for training
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draws fresh weights.

        The output matrices of attention and MLP begin at zero, so that each block begins as the identity, and so
        does the head: at first every token is equally likely, and the loss is exactly log(vocab_size).
        """
        nn.init.normal_(self.embedding.weight, std=1.0)
        nn.init.zeros_(self.head.weight)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                fan_out, fan_in = module.weight.shape
                nn.init.normal_(module.weight, std=fan_in**-0.5 * min(1.0, (fan_out / fan_in) ** 0.5))
        for block in self.blocks:
            assert isinstance(block, Block)
            for matrix in block.last_matrices:
                nn.init.zeros_(matrix)

    def compile_for_training(self) -> None:
        """Compiles what is the same in every step of training: a block and, on a GPU, the loss.

        All blocks run what was compiled for one, so that takes as long for a deep model as for a shallow one. Scoring
        and generating go without, as their rows are of any length, and would be compiled again for each.
        """
        self.compiled_block = torch.compile(_through, dynamic=False)

    def hidden(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """All but the head: the normed residual stream after the last block.

        Args:
            ids: (batch, time), int64.
            cache: keys and values of the tokens before these; it takes in the new ones.

        Returns:
            (batch, time, width)
        """
        time = ids.size(1)
        start = cache.position if cache is not None else 0
        if start + time > self.context:
            raise ValueError(f"a row of {start + time} tokens is longer than the model's context of {self.context}")
        x = norm(self.embedding(ids).to(self.activation_dtype))
        cos, sin = self.cos[start : start + time].to(x.dtype), self.sin[start : start + time].to(x.dtype)
        x = self.trunk(x, cos, sin, cache)
        if cache is not None:
            cache.advance(time)
        return x

    def trunk(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """The blocks and the last norm: (batch, time, width) to the same shape."""
        training = cache is None and torch.is_grad_enabled()
        through = self.compiled_block if self.compiled_block is not None and training else _through
        for block in self.blocks:
            x = through(block, x, cos, sin, cache)
        return norm(x)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits of the next token at each place: (batch, time) ids to (batch, time, vocab_size) in float32."""
        return softcap(F.linear(self.hidden(ids, cache), self.head.weight))

    def losses(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The loss of each token, in nats.

        Args:
            ids: (batch, time), int64.
            targets: (batch, time), int64: the token that follows each id, or ``IGNORE``.

        Returns:
            (batch, time), float32; 0 where the target is ``IGNORE``.
        """
        hidden = self.hidden(ids).flatten(0, 1)
        return token_losses(hidden, self.head.weight, targets.flatten()).view_as(targets)

    def loss(self, ids: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """What training makes small: the weighted sum of the losses of all tokens.

        Args:
            ids: (batch, time), int64.
            targets: (batch, time), int64: the token that follows each id, or ``IGNORE``.
            weights: (batch, time), float32: how much each token's loss counts; for a mean, 1 / count each.

        Returns:
            The weighted sum, and the loss of each token as :meth:`losses` gives it, without a gradient.
        """
        hidden = self.hidden(ids).flatten(0, 1)
        compiled = self.compiled_block is not None
        loss, losses = weighted_loss(hidden, self.head.weight, targets.flatten(), weights.flatten(), compiled)
        return loss, losses.view_as(targets)

    @property
    def activation_dtype(self) -> torch.dtype:
        """bfloat16 under autocast, so that the residual stream is not carried in float32; else the weights'."""
        device = self.embedding.weight.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.embedding.weight.dtype

    def new_cache(self, batch: int, length: int | None = None) -> KVCache:
        """An empty KV cache that fits this model, for up to ``length`` tokens (the context if None)."""
        return KVCache(self.shape, batch, length or self.context, self.embedding.weight.device, self.activation_dtype)

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    @property
    def num_matmul_parameters(self) -> int:
        """Parameters that take part in a matrix product: all but the embeddings, which are only looked up."""
        return self.num_parameters - self.embedding.weight.numel()

    @property
    def sizes(self) -> dict[str, int]:
        """The arguments that make a model like this one."""
        return {**self.shape._asdict(), "vocab_size": self.vocab_size, "context": self.context}

    def flops_per_token(self, context: int | None = None) -> int:
        """Floating-point operations to train on one token, forward and backward, in rows of ``context``.

        Args:
            context: tokens in a row; as many as the model can read if None.

        6 for each parameter in a matrix product (2 forward, 4 backward), and for attention
        12 x depth x heads x head_dim x context, halved because a token looks only backwards
        (PaLM, arXiv 2204.02311, appendix B).
        """
        width = self.shape.heads * self.shape.head_dim
        return 6 * self.num_matmul_parameters + 12 * self.shape.depth * width * (context or self.context) // 2


def _through(block: nn.Module, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None) -> Tensor:
    y: Tensor = block(x, cos, sin, cache)
    return y
