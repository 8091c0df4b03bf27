"""The sections on one block: queries, keys and values, rotation, attention, MLP, residual stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model import GPT, fused, layers, rotary
from nanochat.model.layers import MLP, Attention, Block
from nanochat.tracing.activation_recorder import Activations, BlockActivations
from nanochat.tracing.document import AttentionMaps, Section, Table, format_number, format_percent, vector
from nanochat.tracing.source import Source, source_of

KEYS_SHOWN = 3  # tokens with the highest attention weights, listed for each head
NEURONS_SHOWN = 3


def block_sections(model: GPT, activations: Activations, layer: int, tokens: list[str]) -> list[Section]:
    """The operations of one block, in order.

    Args:
        model: the model.
        activations: of its forward pass.
        layer: index of the block, from 0.
        tokens: the tokens in printable form.
    """
    act, block = activations.blocks[layer], model.blocks[layer]
    time = len(tokens)
    cos, sin = model.cos[:time].to(act.query.dtype), model.sin[:time].to(act.query.dtype)
    return [
        _projections(model, act, tokens),
        _rotation(model, activations, act, cos, sin),
        _attention_weights(model, act, tokens),
        _attention_output(act),
        _mlp(activations, act, block),
        _residual_stream(act),
    ]


def _projections(model: GPT, act: BlockActivations, tokens: list[str]) -> Section:
    config = model.config
    text = (
        "The residual stream is normed. Three matrices then compute three vectors for each token: a query (which "
        "tokens to attend to), a key (what the token offers to queries) and a value (the information that it passes "
        f"on). Each is split into heads of {config.head_dim} numbers, and each of the {config.n_head} query heads "
        "attends independently."
    )
    if config.n_kv_head != config.n_head:
        text += (
            f" There are {config.n_kv_head} key and value heads, each shared by {config.n_head // config.n_kv_head} "
            "query heads (grouped-query attention, arXiv 2305.13245)."
        )
    return Section(
        "Queries, keys and values",
        text,
        [source_of(Block.forward, "self.attn(norm(x)"), source_of(Attention.forward, "c(x)")],
        [
            ("x", (1, *act.attention_in.shape)),
            ("query", (1, *act.query.shape)),
            ("key", (1, *act.key.shape)),
            ("value", (1, *act.value.shape)),
        ],
        [vector(f"{name} of {tokens[-1]}, head 1", getattr(act, name)[-1, 0]) for name in ("query", "key", "value")],
    )


def _rotation(model: GPT, activations: Activations, act: BlockActivations, cos: Tensor, sin: Tensor) -> Section:
    rotated, _ = act.rotated(cos, sin)
    before, after = act.query[-1, 0].float(), rotated[-1, 0].float()
    pairs, position = model.config.head_dim // 2, len(act.query) - 1
    angles = torch.atan2(sin[-1].float(), cos[-1].float()) * 180 / math.pi % 360
    rows = [
        (
            f"{i + 1} of {pairs}",
            f"{float(angles[i]):.1f} degrees",
            f"{format_number(float(before[i]))}, {format_number(float(before[i + pairs]))}",
            f"{format_number(float(after[i]))}, {format_number(float(after[i + pairs]))}",
        )
        for i in sorted({0, pairs // 2, pairs - 1})
    ]
    head_dim, norm = model.config.head_dim, math.sqrt(model.config.head_dim)
    return Section(
        "Rotary positions and QK norm",
        "Embeddings contain no positions; attention adds them. Rotary position embedding (RoFormer, arXiv 2104.09864) "
        "rotates each pair of numbers in a query or key by an angle proportional to the token's position: fast for the "
        "first pair, slowly for the last. Positions then affect the dot product of a query and a key only through the "
        f"distance between the two tokens. RMSNorm scales both to a norm of sqrt({head_dim}) = {norm:.1f} (QK norm, "
        "arXiv 2010.04245), which bounds the attention scores and keeps training stable at high learning rates.",
        [
            source_of(rotary.rotation_table, "angle.cos()"),
            source_of(rotary.rotate, "torch.cat"),
            source_of(layers.rotate_and_norm, "norm(rotate("),
        ],
        [("query", (1, *act.normed_query.shape)), ("key", (1, *act.normed_key.shape))],
        [
            Table(("pair", f"angle at position {position}", "before", "after"), rows),
            vector("query of head 1 before the norm", after),
            vector("after the norm", act.normed_query[0, -1]),
        ],
        fused_note(activations, fused.rotate_and_norm),
    )


def fused_note(activations: Activations, function: Callable[..., Any]) -> str:
    """Names the CPU implementation that ran instead of the quoted formula; empty if the quoted formula ran."""
    if not activations.fused:
        return ""
    location = source_of(function).location
    return f"On a CPU a faster implementation of the same formula runs: {location}"


def _attention_weights(model: GPT, act: BlockActivations, tokens: list[str]) -> Section:
    weights = act.attention_weights()
    rows: list[Sequence[str]] = []
    for head, row in enumerate(weights[:, -1]):
        top = row.topk(min(KEYS_SHOWN, len(row)))
        pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
        rows.append((str(head + 1), "  ".join(f"{tokens[i]} {format_percent(weight)}" for weight, i in pairs)))
    if act.attended_by_torch:
        note = "PyTorch's attention kernel ran. It does not return the weights, so they are computed here."
    else:
        note = "For short texts on a CPU, plain matrix products are faster than PyTorch's attention kernel."
    return Section(
        "Attention weights",
        "A score is the dot product of a query and a key, divided by the square root of the head size: "
        f"sqrt({model.config.head_dim}) = {math.sqrt(model.config.head_dim):.1f}. Each query is compared with the keys "
        "of its own token and of all earlier tokens; later tokens are masked. Softmax turns the scores of a query into "
        f"attention weights, which sum to 100 %. The highest weights of the last token, {tokens[-1]}:",
        [_attention_source(act, "torch.softmax(scores")],
        [("weights", (1, *weights.shape))],
        [Table(("head", "attends to"), rows), AttentionMaps(tokens, weights)],
        note,
    )


def _attention_source(act: BlockActivations, statement: str) -> Source:
    """The statement of the fused attention, or the call of PyTorch's kernel if that ran."""
    if act.attended_by_torch:
        return source_of(layers.causal_attention, "F.scaled_dot_product_attention")
    return source_of(fused._Attention.forward, statement)


def _attention_output(act: BlockActivations) -> Section:
    return Section(
        "Attention output",
        "Each head sums the values of the tokens that it attends to, weighted by the attention weights. The outputs of "
        "all heads are concatenated and multiplied by a matrix, and the result is added to the residual stream.",
        [
            _attention_source(act, "torch.bmm("),
            source_of(Attention.forward, "self.c_proj("),
            source_of(Block.forward, "x + self.attn"),
        ],
        [("head outputs", (1, *act.head_outputs.shape)), ("added", (1, *act.attention_out.shape))],
        [
            vector("output of head 1", act.head_outputs[0, -1]),
            vector("added to the residual stream", act.attention_out[-1]),
        ],
    )


def _mlp(activations: Activations, act: BlockActivations, block: Block) -> Section:
    inner = neurons(block, act.mlp_in)
    active, top = int((inner[-1] > 0).sum()), inner[-1].topk(NEURONS_SHOWN)
    pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    largest = ", ".join(f"{i:,} ({format_number(v)})" for v, i in pairs) if active else "none: the output is 0"
    return Section(
        "MLP",
        f"The MLP processes each token separately. The normed residual stream is multiplied by a matrix, which gives "
        f"{inner.size(1):,} numbers ('neurons'). ReLU sets negative numbers to 0, and the others are squared (Primer, "
        "arXiv 2109.08668). A second matrix turns them into a vector that is added to the residual stream.",
        [source_of(MLP.forward, "F.relu"), source_of(Block.forward, "x + self.mlp")],
        [("neurons", (1, *inner.shape)), ("added", (1, *act.mlp_out.shape))],
        [
            Table(("active neurons", "the largest"), [(f"{active:,} of {inner.size(1):,}", largest)]),
            vector("added to the residual stream", act.mlp_out[-1]),
        ],
    )


@torch.no_grad()
def neurons(block: Block, x: Tensor) -> Tensor:
    """The hidden activations of the MLP: (time, width) to (time, 4 x width)."""
    return F.relu(block.mlp.c_fc(x)).square()


def _residual_stream(act: BlockActivations) -> Section:
    return Section(
        "Residual stream",
        "The block does not replace its input: it only adds to it. Later blocks can therefore read what any earlier "
        "block has added.",
        [source_of(Block.forward, "return x + self.mlp")],
        [("x", (1, *act.output.shape))],
        [
            vector("input of the block", act.input[-1]),
            vector("after attention", act.middle[-1]),
            vector("output of the block", act.output[-1]),
        ],
    )
