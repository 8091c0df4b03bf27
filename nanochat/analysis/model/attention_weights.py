"""Where each head of the real model looks, taken from its own queries and keys by hooks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nanochat.model import GPT
from nanochat.model.layers import Attention, rotate_and_norm

TOLERANCE = 1e-4  # between what the module hands on and what the shares shown here give, relative to its size

Callback = Callable[[int, Tensor], None]


@torch.inference_mode()
def record_attention(gpt: GPT, ids: Tensor, callback: Callback) -> None:
    """Runs the model and hands over, block by block, how each token shares its attention out.

    What torch's kernels compute in between is never there to be read: the shares are computed once more from the
    queries and keys that the module's own projections gave, and what they make of the values is compared with what
    the module hands to its output matrix. So this cannot silently become another attention than the model's.

    Args:
        gpt: the model.
        ids: (batch, time), int64.
        take: is called with the number of a block and its shares, (batch, heads, time, time), float32: row i of the
            last two says how token i looks back, and adds up to 1.

    Raises:
        RuntimeError: if the shares do not give what the module itself has computed.
    """
    with ExitStack() as stack:
        for layer, block in enumerate(gpt.blocks):
            for handle in _add_hooks(layer, block.attn, callback):
                stack.callback(handle.remove)
        gpt.hidden(ids)


def _add_hooks(layer: int, attention: Attention, callback: Callback) -> list[Any]:
    seen: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            seen[name] = output

        return hook

    def enters(module: Any, inputs: tuple[Any, ...]) -> None:
        seen["cos"], seen["sin"] = inputs[1], inputs[2]

    def mixed(module: Any, inputs: tuple[Any, ...]) -> None:
        seen["mixed"] = inputs[0]

    def leaves(module: Any, inputs: Any, output: Tensor) -> None:
        weights, values = attention_weights(
            attention, *(seen[name] for name in ("query", "key", "value", "cos", "sin"))
        )
        own = seen["mixed"].float()
        difference = (torch.matmul(weights, values).transpose(1, 2).reshape(own.shape) - own).abs().max().item()
        if difference > TOLERANCE * max(1.0, own.abs().max().item()):
            raise RuntimeError(f"block {layer}: attention computed from its queries and keys is {difference:.2g} off")
        seen.clear()
        callback(layer, weights)

    handles = [
        attention.register_forward_pre_hook(enters),
        attention.c_proj.register_forward_pre_hook(mixed),
        attention.register_forward_hook(leaves),
    ]
    projections = {"query": attention.c_q, "key": attention.c_k, "value": attention.c_v}
    return [*handles, *(p.register_forward_hook(keep(name)) for name, p in projections.items())]


def attention_weights(
    attention: Attention, query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    """The softmax that attention's kernels do not let out, and the values that it weighs.

    Args:
        attention: the module, for its sizes.
        query: (batch, time, heads x head_dim), of its projection; likewise ``key`` and ``value`` with ``kv_heads``.
        key: see there.
        value: see there.
        cos: (time, head_dim / 2).
        sin: the same shape.

    Returns:
        Shares (batch, heads, time, time), values (batch, heads, time, head_dim); float32.
    """
    batch, time, _ = query.shape
    query, key, value = (x.view(batch, time, -1, attention.head_dim) for x in (query, key, value))
    query, key = (rotate_and_norm(x, cos, sin).float() for x in (query, key))
    group = attention.n_head // attention.n_kv_head  # query heads that share a key
    key, value = (x.repeat_interleave(group, 1) for x in (key, value.transpose(1, 2).float()))
    scores = query @ key.mT * attention.head_dim**-0.5
    future = torch.ones(time, time, dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1), value


class AttentionStats(NamedTuple):
    """Where heads look, on average. Each has the shape (heads,) for a block, (depth, heads) for a model.

    Attributes:
        distance: how many tokens back.
        entropy: in bits: 0 looks at one token, 3 is as spread out as looking evenly at 8.
        first: the share that goes to the first token of the row.
        previous: the share that goes to the token before.
        itself: the share that goes to the token itself.
    """

    distance: Tensor
    entropy: Tensor
    first: Tensor
    previous: Tensor
    itself: Tensor


def attention_stats(weights: Tensor, first_position: int) -> AttentionStats:
    """Means over the tokens from place ``since`` (at least 1) of each row on: the first ones have no choice.

    Args:
        shares: (batch, heads, time, time), each row of the last two adds up to 1.
        since: the first place that counts.
    """
    time = weights.size(-1)
    assert 1 <= first_position < time
    place = torch.arange(time, device=weights.device)
    back = (place[:, None] - place).to(weights.dtype)  # (time, time)
    entropy = -torch.special.xlogy(weights, weights).sum(-1) / torch.log(torch.tensor(2.0))
    diagonal = weights.diagonal(dim1=-2, dim2=-1)
    before = torch.nn.functional.pad(weights.diagonal(-1, -2, -1), (1, 0))  # (batch, heads, time)
    each = ((weights * back).sum(-1), entropy, weights[..., 0], before, diagonal)
    return AttentionStats(*(values[..., first_position:].mean((0, 2)) for values in each))


def uniform_attention_stats(time: int, first_position: int) -> AttentionStats:
    """What a head would score that looks evenly at all there is: what the others are compared with."""
    even = torch.ones(time, time).tril()
    return attention_stats((even / even.sum(-1, keepdim=True))[None, None], first_position)


@torch.inference_mode()
def model_attention_stats(gpt: GPT, ids: Tensor, first_position: int) -> AttentionStats:
    """:func:`look` for all blocks and heads: (depth, heads) each. ``ids``: (batch, time)."""
    blocks: list[AttentionStats] = []
    record_attention(gpt, ids, lambda layer, weights: blocks.append(attention_stats(weights, first_position)))
    return AttentionStats(*(torch.stack(values).cpu() for values in zip(*blocks, strict=True)))
