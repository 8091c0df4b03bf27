"""The steps inside one block: queries, keys and values, rotation, attention, MLP."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.model import GPT, fused, layers, rotary
from nanochat.model.layers import MLP, Attention, Block
from nanochat.tracing.activation_recorder import Activations, BlockActivations
from nanochat.tracing.document import AttentionMaps, Section, Table, number, numbers, percent
from nanochat.tracing.source import source_of

LOOKED_AT = 3  # tokens that are named for each head


def block_sections(model: GPT, recording: Activations, layer: int, tokens: list[str]) -> list[Section]:
    """What one block does, in order.

    Args:
        model: that read.
        recording: of its pass.
        layer: which block, from 0.
        tokens: as a person can read them.
    """
    record, block = recording.blocks[layer], model.blocks[layer]
    time = len(tokens)
    cos, sin = model.cos[:time].to(record.query.dtype), model.sin[:time].to(record.query.dtype)
    return [
        _projections(model, record, tokens),
        _rotation(model, recording, record, cos, sin),
        _attention(recording, record, tokens),
        _gathered(record, block),
        _mlp(recording, record, block),
        _stream(record),
    ]


def _projections(model: GPT, record: BlockActivations, tokens: list[str]) -> Section:
    shape = model.config
    shared = f" ({shape.n_kv_head} for keys and values, each shared)" if shape.n_kv_head != shape.n_head else ""
    return Section(
        "Queries, keys and values",
        "The stream is normed, and three matrices make three vectors of each token: what it looks for (query), what "
        f"it can be found by (key), and what it has to give (value). They are cut into {shape.n_head} heads of "
        f"{shape.head_dim} numbers{shared}, each of which looks by itself.",
        [source_of(Block.forward, "self.attn(norm(x)"), source_of(Attention.forward, "c(x)")],
        [
            ("x", (1, *record.attention_in.shape)),
            ("query", (1, *record.query.shape)),
            ("key", (1, *record.key.shape)),
            ("value", (1, *record.value.shape)),
        ],
        [
            numbers(f"{name} of {tokens[-1]}, head 1", getattr(record, name)[-1, 0])
            for name in ("query", "key", "value")
        ],
    )


def _rotation(model: GPT, recording: Activations, record: BlockActivations, cos: Tensor, sin: Tensor) -> Section:
    rotated, _ = record.rotated(cos, sin)
    before, after = record.query[-1, 0].float(), rotated[-1, 0].float()
    half, place = model.config.head_dim // 2, len(record.query) - 1
    angles = torch.atan2(sin[-1].float(), cos[-1].float()) * 180 / math.pi % 360
    rows = [
        (
            f"{i + 1} of {half}",
            f"{float(angles[i]):.1f} degrees",
            f"{number(float(before[i]))}, {number(float(before[i + half]))}",
            f"{number(float(after[i]))}, {number(float(after[i + half]))}",
        )
        for i in sorted({0, half // 2, half - 1})
    ]
    normed = record.turned_query[0, -1]
    return Section(
        "Rotation and QK norm",
        "So far nothing says where a token stands. Each pair of numbers in a query or key is turned by an angle that "
        "grows with the token's place, fast for the first pair and slowly for the last: what two tokens make of each "
        f"other then depends on how far apart they are. Then both are normed, to the length "
        f"sqrt({model.config.head_dim}) = {math.sqrt(model.config.head_dim):.1f}, which keeps the scores in bounds.",
        [
            source_of(rotary.rotation_table, "angle.cos()"),
            source_of(rotary.rotate, "torch.cat"),
            source_of(layers.rotate_and_norm, "norm(rotate("),
        ],
        [("query", (1, *record.turned_query.shape)), ("key", (1, *record.turned_key.shape))],
        [
            Table(("pair", f"turned at place {place}", "before", "after"), rows),
            numbers("query of head 1 before the norm", after),
            numbers("after it", normed),
        ],
        "" if not recording.fused else _in_one(fused.rotate_and_norm),
    )


def _in_one(function: object) -> str:
    place = source_of(function).place  # type: ignore[arg-type]
    return f"On a CPU both run in one pass, by the same formulas: {place}"


def _attention(recording: Activations, record: BlockActivations, tokens: list[str]) -> Section:
    shares = record.shares()
    rows: list[Sequence[str]] = []
    for head, row in enumerate(shares[:, -1]):
        best = row.topk(min(LOOKED_AT, len(row)))
        looked = [f"{tokens[i]} {percent(s)}" for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
        rows.append((str(head + 1), "  ".join(looked)))
    by_torch = record.attention_by is F.scaled_dot_product_attention
    source = (
        source_of(layers.causal_attention, "F.scaled_dot_product_attention")
        if by_torch
        else source_of(fused._Attention.forward, "torch.softmax(scores")
    )
    note = (
        "torch's own kernel ran, which does not keep the shares: they are computed here from its queries and keys."
        if by_torch
        else "Short rows on a CPU go through plain matrix products, as the statement above shows them."
    )
    return Section(
        "Attention: who looks at whom",
        "Each query is compared with the keys of its own token and of all before it; later ones are hidden. Softmax "
        "makes shares of the scores (query times key, divided by the root of the head's size), which add up to 100 %. "
        f"This is what the last token, {tokens[-1]}, looks at:",
        [source],
        [("shares", (1, *shares.shape))],
        [Table(("head", "looks at"), rows), AttentionMaps(tokens, shares)],
        note,
    )


def _gathered(record: BlockActivations, block: Block) -> Section:
    return Section(
        "What attention brings back",
        "The values of the tokens looked at are added up, by these shares. What the heads have gathered is laid side "
        "by side, a matrix mixes it, and the result is added to the stream.",
        [
            source_of(fused._Attention.forward, "torch.bmm(shares, value)")
            if record.attention_by is not F.scaled_dot_product_attention
            else source_of(layers.causal_attention, "F.scaled_dot_product_attention"),
            source_of(Attention.forward, "self.c_proj("),
            source_of(Block.forward, "x + self.attn"),
        ],
        [("gathered", (1, *record.attended.shape)), ("added", (1, *record.attention_out.shape))],
        [
            numbers("head 1 has gathered", record.attended[0, -1]),
            numbers("added to the stream", record.attention_out[-1]),
        ],
    )


def _mlp(recording: Activations, record: BlockActivations, block: Block) -> Section:
    inner = neurons(block, record.mlp_in)
    active, strongest = int((inner[-1] > 0).sum()), inner[-1].topk(3)
    pairs = zip(strongest.values.tolist(), strongest.indices.tolist(), strict=True)
    named = ", ".join(f"{i:,} ({number(v)})" for v, i in pairs) if active else "none: it adds nothing to this token"
    return Section(
        "MLP",
        f"Now each token is worked on alone. A matrix asks {inner.size(1):,} questions of it ('neurons'); an answer "
        "below zero counts as none, the others are squared. A second matrix says what each answer adds to the stream.",
        [source_of(MLP.forward, "F.relu"), source_of(Block.forward, "x + self.mlp")],
        [("inside", (1, *inner.shape)), ("added", (1, *record.mlp_out.shape))],
        [
            Table(("neurons with an answer", "the strongest"), [(f"{active:,} of {inner.size(1):,}", named)]),
            numbers("added to the stream", record.mlp_out[-1]),
        ],
        f"On a CPU it runs as a whole, by the same formula: {source_of(fused.mlp).place}" if recording.fused else "",
    )


@torch.no_grad()
def neurons(block: Block, x: Tensor) -> Tensor:
    """What is between the two matrices of the MLP: (time, width) to (time, 4 x width)."""
    return F.relu(block.mlp.c_fc(x)).square()


def _stream(record: BlockActivations) -> Section:
    return Section(
        "The residual stream",
        "Nothing is replaced: the block has only added to the vector that came in. So what an early block found is "
        "still there for a late one.",
        [source_of(Block.forward, "return x + self.mlp")],
        [("x", (1, *record.after.shape))],
        [
            numbers("came in", record.before[-1]),
            numbers("after attention", record.middle[-1]),
            numbers("goes out", record.after[-1]),
        ],
    )
