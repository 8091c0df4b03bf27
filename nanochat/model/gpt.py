"""The GPT: nanochat's decoder-only transformer, as published in October 2025."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat.model.config import GPTConfig
from nanochat.model.kv_cache import KVCache
from nanochat.model.layers import Block, Cache, norm
from nanochat.model.loss import softcap, token_losses, weighted_loss
from nanochat.model.rotary import rotation_table


class GPT(nn.Module):
    """Reads token ids and predicts, at each position, the next token.

    ids -> :meth:`embed` -> :meth:`trunk` (the blocks) -> :meth:`unembed` -> logits. Embedding and head are separate
    matrices; there are no biases and no dropout anywhere. ``state_dict()`` has the keys of nanochat's own checkpoints.

    Args:
        config: the shape.

    Attributes:
        transformer: ``wte``, the token embedding, and ``h``, the blocks.
        lm_head: from the residual stream to logits, before the soft cap.
        compiled_block: a compiled forward pass of one block, for training; None where it is not compiled.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        wte = nn.Embedding(config.vocab_size, config.n_embd)
        blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.transformer = nn.ModuleDict({"wte": wte, "h": blocks})
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        # buffers move with the model; persistent=False: a checkpoint need not carry what can be computed
        cos, sin = rotation_table(config.sequence_len, config.head_dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.compiled_block: Callable[..., Tensor] | None = None
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draws fresh weights.

        The output matrices of attention and MLP begin at zero, so that each block begins as the identity, and so
        does the head: at first every token is equally likely, and the loss is exactly log(vocab_size). The other
        matrices get a standard deviation of ``min(1, sqrt(fan_out / fan_in)) / sqrt(fan_in)``, as in nanochat.
        """
        nn.init.normal_(self.wte.weight, std=1.0)
        nn.init.zeros_(self.lm_head.weight)
        for module in self.transformer["h"].modules():
            if isinstance(module, nn.Linear):
                fan_out, fan_in = module.weight.shape
                nn.init.normal_(module.weight, std=fan_in**-0.5 * min(1.0, (fan_out / fan_in) ** 0.5))
        for block in self.blocks:
            nn.init.zeros_(block.attn.c_proj.weight)
            nn.init.zeros_(block.mlp.c_proj.weight)

    # ------------------------------------------------------------------------------------------- the forward pass

    def embed(self, ids: Tensor) -> Tensor:
        """The start of the residual stream: the tokens' vectors, normed.

        Args:
            ids: (batch, time), int64.

        Returns:
            (batch, time, n_embd), in :attr:`activation_dtype`.
        """
        return norm(self.wte(ids).to(self.activation_dtype))

    def trunk(
        self, x: Tensor, positions: Tensor | None = None, mask: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """All blocks.

        Args:
            x: (batch, time, n_embd), from :meth:`embed`.
            positions: (time,) or (batch, time), int64: the place of each token in its text; if None, they count up
                from the cache's position, or from 0.
            mask: boolean, broadcastable to (batch, heads, time, all keys): which keys each token sees. If None, a
                token sees itself and all tokens before it.
            cache: keys and values of the tokens before these; each block stores the new ones in it. Its position
                does not move: :meth:`hidden` and :meth:`forward` move it.

        Returns:
            The residual stream after the last block, (batch, time, n_embd).
        """
        if positions is None:
            start = cache.position if cache is not None else 0
            here: Tensor | slice = slice(start, start + x.size(1))
        else:
            here = positions
        cos, sin = self.cos[here].to(x.dtype), self.sin[here].to(x.dtype)
        training = cache is None and mask is None and torch.is_grad_enabled()
        run = self.compiled_block if self.compiled_block is not None and training else _run_block
        for block in self.blocks:
            x = run(block, x, cos, sin, mask, cache)
        return x

    def unembed(self, x: Tensor) -> Tensor:
        """The last norm, the head and the soft cap.

        Args:
            x: (..., n_embd), a residual stream: of the last block, or for the logit lens of any other.

        Returns:
            Logits of the next token, (..., vocab_size), float32.
        """
        return softcap(F.linear(norm(x), self.lm_head.weight.to(x.dtype)))

    def hidden(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """The residual stream after the last block, without the last norm.

        Args:
            ids: (batch, time), int64.
            cache: keys and values of the tokens before these; it takes in the new ones.

        Returns:
            (batch, time, n_embd)

        Raises:
            ValueError: if the text is longer than the context.
        """
        end = ids.size(1) + (cache.position if cache is not None else 0)
        if end > self.context:
            raise ValueError(f"a row of {end} tokens is longer than the model's context of {self.context}")
        x = self.trunk(self.embed(ids), cache=cache)
        if cache is not None:
            cache.advance(ids.size(1))
        return x

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits of the next token at each position: (batch, time) ids to (batch, time, vocab_size) in float32."""
        return self.unembed(self.hidden(ids, cache))

    def losses(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The loss of each token, in nats.

        Args:
            ids: (batch, time), int64.
            targets: (batch, time), int64: the token that follows each id, or ``IGNORE``.

        Returns:
            (batch, time), float32; 0 where the target is ``IGNORE``.
        """
        hidden = norm(self.hidden(ids)).flatten(0, 1)
        return token_losses(hidden, self.lm_head.weight, targets.flatten()).view_as(targets)

    def loss(self, ids: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The training loss: the weighted sum of the losses of all tokens.

        Args:
            ids: (batch, time), int64.
            targets: (batch, time), int64: the token that follows each id, or ``IGNORE``.
            weights: (batch, time), float32: how much each token's loss counts; for a mean, 1 / count each.

        Returns:
            The weighted sum, and the loss of each token as :meth:`losses` gives it, without a gradient.
        """
        hidden = norm(self.hidden(ids)).flatten(0, 1)
        compiled = self.compiled_block is not None
        loss, losses = weighted_loss(hidden, self.lm_head.weight, targets.flatten(), weights.flatten(), compiled)
        return loss, losses.view_as(targets)

    def compile_for_training(self) -> None:
        """Compiles the parts that are the same in every step of training: a block and, on a GPU, the loss.

        All blocks run the code that was compiled for one, so compiling takes no longer for a deep model. Scoring and
        generation stay uncompiled: their rows are of any length, and each length would be compiled again.
        """
        self.compiled_block = torch.compile(_run_block, dynamic=False)

    # ------------------------------------------------------------------------------------------------- its parts

    @property
    def wte(self) -> nn.Embedding:
        """The token embedding."""
        return cast(nn.Embedding, self.transformer["wte"])

    @property
    def blocks(self) -> list[Block]:
        """The blocks, from the first to the last."""
        return list(cast("Iterable[Block]", self.transformer["h"]))

    @property
    def context(self) -> int:
        """The longest row of tokens that the model reads."""
        return self.config.sequence_len

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def device(self) -> torch.device:
        return self.wte.weight.device

    @property
    def activation_dtype(self) -> torch.dtype:
        """bfloat16 under autocast, so that the residual stream is not carried in float32; else the weights'."""
        kind = self.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.wte.weight.dtype

    def new_cache(self, batch: int, length: int | None = None) -> KVCache:
        """An empty KV cache that fits this model, for up to ``length`` tokens (the context if None)."""
        return KVCache(self.config, batch, length or self.context, self.device, self.activation_dtype)

    # ---------------------------------------------------------------------------------------------------- its size

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    @property
    def num_block_parameters(self) -> int:
        """Parameters of all blocks: all but embedding and head."""
        return sum(p.numel() for p in self.transformer["h"].parameters())

    @property
    def num_matmul_parameters(self) -> int:
        """Parameters that take part in a matrix product: all but the embedding, which is only looked up."""
        return self.num_parameters - self.wte.weight.numel()

    def flops_per_token(self, context: int | None = None) -> int:
        """Floating-point operations to train on one token, forward and backward, in rows of ``context``.

        6 for each parameter in a matrix product (2 forward, 4 backward), and for attention
        12 x layers x heads x head_dim x context, halved because a token looks only backwards
        (PaLM, arXiv 2204.02311, appendix B).

        Args:
            context: tokens in a row; as many as the model can read if None.
        """
        config = self.config
        attention = 12 * config.n_layer * config.n_embd * (context or config.sequence_len) // 2
        return 6 * self.num_matmul_parameters + attention


def _run_block(
    block: nn.Module, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: Cache | None
) -> Tensor:
    y: Tensor = block(x, cos, sin, mask, cache)
    return y
