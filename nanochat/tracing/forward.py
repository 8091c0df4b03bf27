"""The steps of one forward pass, told in order from what a recording holds."""

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
from nanochat.tracing.block import block_sections
from nanochat.tracing.document import BarChart, Chapter, Section, Table, number, numbers, percent, token_text
from nanochat.tracing.source import source_of

TOP = 8  # tokens that are named among the likeliest
LEAST = 0.0005  # of them only those with so much probability


def forward_chapters(
    model: GPT, tokenizer: Tokenizer, recording: Activations, layer: int, is_chat: bool, sampler: Sampler
) -> list[Chapter]:
    """The whole way, from the text to the next token.

    Args:
        model: that read.
        tokenizer: its own.
        recording: of its pass.
        layer: the block that is shown in detail, from 0.
        is_chat: whether the tokens are a conversation.
        sampler: what chooses the next token, besides the likeliest.
    """
    tokens = [token_text(tokenizer, token) for token in recording.ids.tolist()]
    read = [_tokens(tokenizer, recording, tokens, is_chat), _embedding(recording, tokens), _norm(recording)]
    depth = model.config.n_layer
    inside = Chapter(
        f"Block {layer + 1} of {depth}",
        "Attention carries something from earlier tokens to later ones, then the MLP works on each token alone. Both "
        "add what they found to the stream.",
        block_sections(model, recording, layer, tokens),
    )
    parts = [Chapter("From text to vectors", "", read), inside]
    if depth > 1:
        parts.append(Chapter("All blocks", "", [_blocks(model, tokenizer, recording, tokens)]))
    end = [
        _logits(model, tokenizer, recording),
        _probabilities(tokenizer, recording, sampler.settings),
        _choice(tokenizer, recording, sampler),
    ]
    return [*parts, Chapter("From vectors to the next token", "", end)]


def _tokens(tokenizer: Tokenizer, recording: Activations, tokens: list[str], is_chat: bool) -> Section:
    text = (
        "A model reads numbers, not letters. The tokenizer cuts text into pieces that it knows, and each has a number "
        f"below {tokenizer.vocab_size:,}."
    )
    text += (
        " A conversation stands between special tokens that say who speaks; the answer is to come after "
        "<|assistant_start|>."
        if is_chat
        else " <|bos|> stands before every document."
    )
    rows = [(str(n), f"{i:,}", text) for n, (i, text) in enumerate(zip(recording.ids.tolist(), tokens, strict=True))]
    source = source_of(Tokenizer.encode, "encode_ordinary(text)")
    sources = [source, source_of(render_prompt)] if is_chat else [source]
    return Section("Tokens", text, sources, [("ids", (1, len(tokens)))], [Table(("place", "number", "token"), rows)])


def _embedding(recording: Activations, tokens: list[str]) -> Section:
    width = recording.embedding.size(1)
    return Section(
        "Embedding",
        f"Each token has a vector of {width} numbers of its own, a row of a table that training has filled. All that "
        "the model knows of a token before it looks at the others is in there.",
        [source_of(GPT.embed, "self.wte(ids)")],
        [("x", (1, *recording.embedding.shape))],
        [numbers(f"the last token, {tokens[-1]}", recording.embedding[-1])],
    )


def _norm(recording: Activations) -> Section:
    size = recording.start.size(1)
    return Section(
        "Norm",
        f"Each vector is scaled to the length sqrt({size}) = {math.sqrt(size):.1f} (RMSNorm), so that what follows "
        "meets numbers of one size. This begins the residual stream, which every block reads and adds to.",
        [source_of(GPT.embed, "norm(self.wte"), source_of(layers.norm, "F.rms_norm")],
        [("x", (1, *recording.start.shape))],
        [numbers("before", recording.embedding[-1]), numbers("after", recording.start[-1])],
        ran(recording, fused.norm),
    )


def ran(recording: Activations, function: object) -> str:
    """What to say where the faster formula for a CPU took the place of the one shown."""
    if not recording.fused:
        return ""
    place = source_of(function).place  # type: ignore[arg-type]
    return f"On a CPU the same formula runs with fewer passes over memory: {place}"


def _blocks(model: GPT, tokenizer: Tokenizer, recording: Activations, tokens: list[str]) -> Section:
    rows = []
    for index, block in enumerate(recording.blocks):
        shares = block.shares()[:, -1].mean(0)
        shares[-1] = 0  # what it looks at besides itself
        most = int(shares.argmax())
        rows.append(
            (
                str(index + 1),
                number(float(block.attention_out[-1].norm())),
                number(float(block.mlp_out[-1].norm())),
                number(float(block.after[-1].norm())),
                f"{tokens[most]} {percent(float(shares[most]))}" if len(tokens) > 1 else "",
                token_text(tokenizer, int(model.unembed(block.after[-1]).argmax())),
            )
        )
    columns = ("block", "attention adds", "MLP adds", "stream", "looks back at", "would say")
    return Section(
        "The residual stream, block by block",
        "For the last token: how long the vectors are that each block adds to the stream, which earlier token its "
        "heads look at most, and what the model would answer if it ended there ('logit lens': the last norm and the "
        "head, put behind that block).",
        [source_of(GPT.trunk, "x = run(block"), source_of(Block.forward, "return x + self.mlp")],
        [("x", (1, *recording.blocks[-1].after.shape))],
        [Table(columns, rows)],
    )


def _logits(model: GPT, tokenizer: Tokenizer, recording: Activations) -> Section:
    capped = loss.softcap(recording.raw[-1])
    best = capped.topk(min(TOP, tokenizer.vocab_size)).indices.tolist()
    rows = [(token_text(tokenizer, i), number(float(recording.raw[-1, i])), number(float(capped[i]))) for i in best]
    cap = loss.SOFTCAP
    return Section(
        "Logits",
        f"A last norm; then the head compares the last token's vector with one vector for each of the "
        f"{tokenizer.vocab_size:,} tokens of the vocabulary. The results are bent to stay between -{cap:g} and "
        f"{cap:g}, which keeps a single over-confident one from spoiling training.",
        [
            source_of(GPT.unembed, "softcap(F.linear(norm(x)"),
            source_of(loss.softcap, "torch.tanh"),
        ],
        [("hidden", (1, *recording.hidden.shape)), ("logits", (1, *recording.logits.shape))],
        [Table(("token", "head", "capped"), rows)],
    )


def _probabilities(tokenizer: Tokenizer, recording: Activations, settings: Sampling) -> Section:
    plain = torch.softmax(recording.logits[-1], 0)
    bars = [_bars(tokenizer, "As the model says it (temperature 1)", plain)]
    if settings.temperature not in (0, 1):
        colder = torch.softmax(recording.logits[-1] / settings.temperature, 0)
        bars.append(_bars(tokenizer, f"At temperature {settings.temperature:g}", colder))
    bits = float(-(plain * plain.clamp_min(1e-30).log2()).sum())
    return Section(
        "Probabilities",
        "Softmax makes shares of the logits: e to the power of each, divided by their sum. Here the model is in doubt "
        f"by {bits:.1f} bits, as if it had to guess among {2**bits:.1f} equally likely tokens. A temperature below 1 "
        "makes likely tokens likelier.",
        [source_of(sampling.choose), source_of(sampling._draw, "torch.add(noise")],
        [("probabilities", (tokenizer.vocab_size,))],
        list(bars),
    )


def _bars(tokenizer: Tokenizer, title: str, shares: Tensor) -> BarChart:
    best = shares.topk(max(1, min(TOP, int((shares >= LEAST).sum()))))
    named = [(token_text(tokenizer, i), v) for v, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
    rest = len(shares) - len(named)
    return BarChart(title, [*named, (f"{rest:,} others", max(0.0, 1 - sum(v for _, v in named)))] if rest else named)


def _choice(tokenizer: Tokenizer, recording: Activations, sampler: Sampler) -> Section:
    settings, logits = sampler.settings, recording.logits[-1:].float().cpu()
    likeliest = sampling.choose(logits, [Sampler(Sampling(temperature=0))])[0]
    rows: list[Sequence[str]] = [("0", token_text(tokenizer, likeliest), "always the likeliest")]
    if not settings.greedy:
        draws = [sampling.choose(logits, [sampler])[0] for _ in range(5)]
        shown = ", ".join(token_text(tokenizer, i) for i in draws)
        rows.append((f"{settings.temperature:g}", shown, "drawn, five times"))
    return Section(
        "The choice",
        "At temperature 0 the likeliest token is taken; else one is drawn. It is put at the end of the text, the model "
        "reads on, and all of this begins again, once for each token that it writes.",
        [source_of(sampling.choose, "argmax(1)"), source_of(sampling._draw, "torch.add(noise")],
        [],
        [Table(("temperature", "token", ""), rows)],
    )
