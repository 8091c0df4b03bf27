"""The attention weights of each head, from the model's own queries and keys, recorded by hooks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nanochat.model import GPT
from nanochat.model.layers import Attention, rotate_and_norm

TOLERANCE = 1e-4  # relative difference between the module's output and that of the recomputed weights

Callback = Callable[[int, Tensor], None]


@torch.inference_mode()
def record_attention(gpt: GPT, ids: Tensor, callback: Callback) -> None:
    """Runs the model, and passes the attention weights of each block to a callback.

    Fused attention kernels do not return their weights, so these are recomputed from the outputs of the module's own
    query and key projections. Their product with the values is compared with the input of the module's output
    projection, so that a change of the model's attention raises an error here instead of giving wrong figures.

    Args:
        gpt: the model.
        ids: (batch, time), int64.
        callback: called with the index of a block and its weights, (batch, heads, time, time), float32: the last
            dimension is the position that is attended to, and sums to 1.

    Raises:
        RuntimeError: if the recomputed attention differs from the module's.
    """
    with ExitStack() as stack:
        for layer, block in enumerate(gpt.blocks):
            for handle in _add_hooks(layer, block.attn, callback):
                stack.callback(handle.remove)
        gpt.hidden(ids)


def _add_hooks(layer: int, attention: Attention, callback: Callback) -> list[Any]:
    recorded: dict[str, Any] = {}

    def record_output(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            recorded[name] = output

        return hook

    def record_rotation(module: Any, inputs: tuple[Any, ...]) -> None:
        recorded["cos"], recorded["sin"] = inputs[1], inputs[2]

    def record_mixed_values(module: Any, inputs: tuple[Any, ...]) -> None:
        recorded["mixed"] = inputs[0]

    def check_and_report(module: Any, inputs: Any, output: Tensor) -> None:
        query, key, value, cos, sin = (recorded[name] for name in ("query", "key", "value", "cos", "sin"))
        weights, values = attention_weights(attention, query, key, value, cos, sin)
        expected = recorded["mixed"].float()
        mixed = torch.matmul(weights, values).transpose(1, 2).reshape(expected.shape)
        difference = (mixed - expected).abs().max().item()
        if difference > TOLERANCE * max(1.0, expected.abs().max().item()):
            raise RuntimeError(f"block {layer}: recomputed attention differs from the model's by {difference:.2g}")
        recorded.clear()
        callback(layer, weights)

    handles = [
        attention.register_forward_pre_hook(record_rotation),
        attention.c_proj.register_forward_pre_hook(record_mixed_values),
        attention.register_forward_hook(check_and_report),
    ]
    projections = {"query": attention.c_q, "key": attention.c_k, "value": attention.c_v}
    return [*handles, *(p.register_forward_hook(record_output(name)) for name, p in projections.items())]


def attention_weights(
    attention: Attention, query: Tensor, key: Tensor, value: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    """The causal softmax of scaled dot products, and the values that it is applied to.

    Args:
        attention: the module, for its sizes.
        query: (batch, time, n_head x head_dim), output of the query projection.
        key: (batch, time, n_kv_head x head_dim).
        value: (batch, time, n_kv_head x head_dim).
        cos: (time, head_dim / 2).
        sin: (time, head_dim / 2).

    Returns:
        Weights (batch, heads, time, time) and values (batch, heads, time, head_dim), both float32.
    """
    batch, time, _ = query.shape
    query, key, value = (x.view(batch, time, -1, attention.head_dim) for x in (query, key, value))
    query, key = (rotate_and_norm(x, cos, sin).float() for x in (query, key))
    group = attention.n_head // attention.n_kv_head  # query heads per key head
    key, value = (x.repeat_interleave(group, 1) for x in (key, value.transpose(1, 2).float()))
    scores = query @ key.mT * attention.head_dim**-0.5
    future = torch.ones(time, time, dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1), value


class AttentionStats(NamedTuple):
    """Mean attention of heads: (heads,) for a block, (depth, heads) for a model.

    Attributes:
        distance: distance to the attended position, in tokens.
        entropy: entropy of the weights, in bits: 0 for a single token, 3 for 8 tokens with equal weights.
        first: weight on the first token of the row.
        previous: weight on the previous token.
        itself: weight on the token itself.
    """

    distance: Tensor
    entropy: Tensor
    first: Tensor
    previous: Tensor
    itself: Tensor


def attention_stats(weights: Tensor, first_position: int) -> AttentionStats:
    """Means over all rows, and over the queries from ``first_position`` on.

    Args:
        weights: (batch, heads, time, time); the last dimension sums to 1.
        first_position: first query that is averaged, at least 1; earlier ones have few positions to attend to.
    """
    time = weights.size(-1)
    assert 1 <= first_position < time
    position = torch.arange(time, device=weights.device)
    distance = (position[:, None] - position).to(weights.dtype)  # (time, time)
    entropy = -torch.special.xlogy(weights, weights).sum(-1) / torch.log(torch.tensor(2.0))
    diagonal = weights.diagonal(dim1=-2, dim2=-1)
    previous = torch.nn.functional.pad(weights.diagonal(-1, -2, -1), (1, 0))  # (batch, heads, time)
    each = ((weights * distance).sum(-1), entropy, weights[..., 0], previous, diagonal)
    return AttentionStats(*(values[..., first_position:].mean((0, 2)) for values in each))


def uniform_attention_stats(time: int, first_position: int) -> AttentionStats:
    """The statistics of a head that attends to all positions equally, for comparison."""
    uniform = torch.ones(time, time).tril()
    return attention_stats((uniform / uniform.sum(-1, keepdim=True))[None, None], first_position)


@torch.inference_mode()
def model_attention_stats(gpt: GPT, ids: Tensor, first_position: int) -> AttentionStats:
    """:func:`attention_stats` of all blocks and heads, (depth, heads) each.

    Args:
        gpt: the model.
        ids: (batch, time), int64.
        first_position: first query that is averaged.
    """
    blocks: list[AttentionStats] = []
    record_attention(gpt, ids, lambda layer, weights: blocks.append(attention_stats(weights, first_position)))
    return AttentionStats(*(torch.stack(values).cpu() for values in zip(*blocks, strict=True)))
