"""The chapters on a forward pass, from the text to the next token, from recorded activations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nanochat.inference import sampling
from nanochat.inference.sampling import Sampler, Sampling
from nanochat.model import GPT, fused, layers, loss
from nanochat.model.layers import Block
from nanochat.tokenizer import Tokenizer, render_prompt
from nanochat.tracing.activation_recorder import Activations
from nanochat.tracing.block import block_sections, fused_note
from nanochat.tracing.document import (
    BarChart,
    Chapter,
    Section,
    Table,
    format_number,
    format_percent,
    token_text,
    vector,
)
from nanochat.tracing.source import source_of

TOKENS_SHOWN = 8  # most likely tokens in tables and bar charts
MIN_PROBABILITY = 0.0005  # less likely tokens get no bar of their own
DRAWS = 5


def forward_chapters(
    model: GPT, tokenizer: Tokenizer, activations: Activations, layer: int, is_chat: bool, sampler: Sampler
) -> list[Chapter]:
    """The whole forward pass.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        activations: of its forward pass.
        layer: index of the block that is explained in detail, from 0.
        is_chat: whether the tokens are a conversation.
        sampler: chooses the next token.
    """
    tokens = [token_text(tokenizer, token) for token in activations.ids.tolist()]
    depth = model.config.n_layer
    chapters = [
        Chapter(
            "From text to vectors",
            "",
            [
                _tokens(tokenizer, activations, tokens, is_chat),
                _embedding(activations, tokens),
                _first_norm(activations),
            ],
        ),
        Chapter(
            f"Block {layer + 1} of {depth}",
            "Attention moves information from earlier tokens to later ones; the MLP then processes each token "
            "separately. Both add their results to the residual stream.",
            block_sections(model, activations, layer, tokens),
        ),
    ]
    if depth > 1:
        chapters.append(Chapter("All blocks", "", [_blocks(model, tokenizer, activations, tokens)]))
    last = [
        _logits(tokenizer, activations),
        _probabilities(tokenizer, activations, sampler.settings),
        _next_token(tokenizer, activations, sampler),
    ]
    return [*chapters, Chapter("From vectors to the next token", "", last)]


def _tokens(tokenizer: Tokenizer, activations: Activations, tokens: list[str], is_chat: bool) -> Section:
    text = (
        "The model reads token ids, not characters. The tokenizer (byte-level BPE) splits the text into tokens of its "
        f"vocabulary of {tokenizer.vocab_size:,}; each token has an id."
    )
    text += (
        " Special tokens mark who is speaking in a conversation. The model's answer follows <|assistant_start|>."
        if is_chat
        else " The special token <|bos|> marks the beginning of a document."
    )
    rows = [
        (str(position), f"{token_id:,}", token)
        for position, (token_id, token) in enumerate(zip(activations.ids.tolist(), tokens, strict=True))
    ]
    sources = [source_of(Tokenizer.encode, "encode_ordinary(text)")]
    if is_chat:
        sources.append(source_of(render_prompt))
    return Section("Tokens", text, sources, [("ids", (1, len(tokens)))], [Table(("position", "id", "token"), rows)])


def _embedding(activations: Activations, tokens: list[str]) -> Section:
    width = activations.embedding.size(1)
    return Section(
        "Embedding",
        f"Each id selects a row of the embedding table: a learned vector of {width} numbers. It depends on the token "
        "alone, not yet on its position or on other tokens.",
        [source_of(GPT.embed, "self.wte(ids)")],
        [("x", (1, *activations.embedding.shape))],
        [vector(f"last token, {tokens[-1]}", activations.embedding[-1])],
    )


def _first_norm(activations: Activations) -> Section:
    width = activations.first_input.size(1)
    return Section(
        "Norm",
        "RMSNorm (arXiv 1910.07467) divides each vector by the root mean square of its numbers. Its Euclidean norm "
        f"becomes sqrt({width}) = {math.sqrt(width):.1f}, so the next operation always gets inputs of the same scale. "
        "The result is the start of the residual stream, which every block reads and adds to.",
        [source_of(GPT.embed, "norm(self.wte"), source_of(layers.norm, "F.rms_norm")],
        [("x", (1, *activations.first_input.shape))],
        [vector("before", activations.embedding[-1]), vector("after", activations.first_input[-1])],
        fused_note(activations, fused.norm),
    )


def _blocks(model: GPT, tokenizer: Tokenizer, activations: Activations, tokens: list[str]) -> Section:
    rows = []
    for index, act in enumerate(activations.blocks):
        weights = act.attention_weights()[:, -1].mean(0)
        weights[-1] = 0  # the last token itself
        top = int(weights.argmax())
        rows.append(
            (
                str(index + 1),
                format_number(float(act.attention_out[-1].norm())),
                format_number(float(act.mlp_out[-1].norm())),
                format_number(float(act.output[-1].norm())),
                f"{tokens[top]} {format_percent(float(weights[top]))}" if len(tokens) > 1 else "",
                token_text(tokenizer, int(model.unembed(act.output[-1]).argmax())),
            )
        )
    columns = ("block", "attention", "MLP", "stream", "attends to", "prediction")
    return Section(
        "Residual stream by block",
        "For the last token: the norms of the vectors that attention and MLP add, and of the residual stream after "
        "the block; the earlier token with the highest attention weight (mean over heads); and the token that the "
        "model would predict if it ended after the block (logit lens, nostalgebraist 2020: the last norm and the head "
        "applied to the residual stream there).",
        [source_of(GPT.trunk, "x = run(block"), source_of(Block.forward, "return x + self.mlp")],
        [("x", (1, *activations.blocks[-1].output.shape))],
        [Table(columns, rows)],
    )


def _logits(tokenizer: Tokenizer, activations: Activations) -> Section:
    raw = activations.raw_logits[-1]
    capped = loss.softcap(raw)
    top = capped.topk(min(TOKENS_SHOWN, tokenizer.vocab_size)).indices.tolist()
    rows = [(token_text(tokenizer, i), format_number(float(raw[i])), format_number(float(capped[i]))) for i in top]
    cap = loss.SOFTCAP
    return Section(
        "Logits",
        "After a last RMSNorm, the head computes a logit for each token of the vocabulary: the dot product of the "
        "vector at the last position with that token's row of the head matrix. The soft cap "
        f"{cap:g} tanh(logit / {cap:g}) keeps logits between -{cap:g} and {cap:g}, so that a single overconfident "
        "logit cannot make the loss very large.",
        [
            source_of(GPT.unembed, "softcap(F.linear(norm(x)"),
            source_of(loss.softcap, "torch.tanh"),
        ],
        [("hidden", (1, *activations.hidden.shape)), ("logits", (1, *activations.logits.shape))],
        [Table(("token", "logit", "capped"), rows)],
    )


def _probabilities(tokenizer: Tokenizer, activations: Activations, settings: Sampling) -> Section:
    logits = activations.logits[-1]
    probabilities = torch.softmax(logits, 0)
    charts = [_bar_chart(tokenizer, "Temperature 1", probabilities)]
    if settings.temperature not in (0, 1):
        scaled = torch.softmax(logits / settings.temperature, 0)
        charts.append(_bar_chart(tokenizer, f"Temperature {settings.temperature:g}", scaled))
    bits = float(-(probabilities * probabilities.clamp_min(1e-30).log2()).sum())
    return Section(
        "Probabilities",
        "Softmax turns logits into probabilities: exp(logit), divided by the sum over the vocabulary. Their entropy "
        f"is {bits:.1f} bits here: as uncertain as a choice among {2**bits:.1f} equally likely tokens. Logits are "
        "divided by the temperature first; a temperature below 1 makes likely tokens even more likely.",
        [source_of(sampling._draw, "torch.add(noise")],
        [("probabilities", (tokenizer.vocab_size,))],
        list(charts),
        "To sample a token, the code does not need the probabilities: the argmax of logits / temperature plus Gumbel "
        "noise has the same distribution (Gumbel-max trick, arXiv 1411.0030).",
    )


def _bar_chart(tokenizer: Tokenizer, title: str, probabilities: Tensor) -> BarChart:
    top = probabilities.topk(max(1, min(TOKENS_SHOWN, int((probabilities >= MIN_PROBABILITY).sum()))))
    named = [(token_text(tokenizer, i), p) for p, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
    others = len(probabilities) - len(named)
    if not others:
        return BarChart(title, named)
    return BarChart(title, [*named, (f"{others:,} others", max(0.0, 1 - sum(p for _, p in named)))])


def _next_token(tokenizer: Tokenizer, activations: Activations, sampler: Sampler) -> Section:
    settings, logits = sampler.settings, activations.logits[-1:].float().cpu()
    top = sampling.choose(logits, [Sampler(Sampling(temperature=0))])[0]
    rows: list[Sequence[str]] = [("0", token_text(tokenizer, top), "the most likely token")]
    if not settings.greedy:
        draws = [sampling.choose(logits, [sampler])[0] for _ in range(DRAWS)]
        tokens = ", ".join(token_text(tokenizer, i) for i in draws)
        rows.append((f"{settings.temperature:g}", tokens, f"{DRAWS} samples"))
    candidates = f"the {settings.top_k} most likely tokens (top-k)" if settings.top_k else "all tokens"
    return Section(
        "Next token",
        f"At temperature 0 the most likely token is chosen. At higher temperatures a token is sampled from "
        f"{candidates}. The token is appended to the text, and the model runs again, once for each new token.",
        [source_of(sampling.choose, "argmax(1)"), source_of(sampling._draw, "logits.topk(")],
        [],
        [Table(("temperature", "token", ""), rows)],
    )
