"""The GPT once more, arranged for one new token at a time on a CPU.

A step of a small model is a hundred operations on a few hundred numbers each. On a CPU every operation costs one to
three microseconds before it computes anything, and the rest of the time goes by in reading the weights. So there are
as few operations as possible here, no memory is taken on the way, and the weights lie as products read them fastest
(layout.py). The logits are those of the model's own forward pass, to rounding (tests/inference/test_decoder.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nanochat.inference.buffers import ROOT_EPS, Buffers
from nanochat.inference.layout import choose_parts, lay_out
from nanochat.inference.state import State
from nanochat.model import GPT
from nanochat.model.loss import SOFTCAP

PIECE = 256  # tokens of a prompt read at once, so that their attention scores take little memory


class Decoder:
    """Reads prompts, and then a token at a time, for one or several streams.

    The matrices are copied: what becomes of the model afterwards does not matter. The tables of embeddings, of which a
    step reads a row or two, are the model's own.

    Args:
        gpt: a model on the CPU, whole. Its weights are taken in float32.
        streams: how many are to be read together. Other numbers work as well, a little slower: the memory layout that
            is best for one is not the best for many.
    """

    @torch.inference_mode()
    def __init__(self, gpt: GPT, streams: int = 1) -> None:
        self.shape, self.vocab_size, self.context = gpt.shape, gpt.vocab_size, gpt.context
        self.embedding, self.ngrams = gpt.embedding.weight.float(), gpt.ngrams
        if gpt.ngrams is not None:
            self.ngram_table = gpt.ngrams.table.float()
        self.parts = choose_parts(gpt.shape, gpt.vocab_size)
        self.layers, self.head = lay_out(gpt, self.parts, streams)
        # Attention divides the product of queries and keys, normed to the length sqrt(head_dim), by sqrt(head_dim):
        # of vectors of length 1 that leaves a factor of sqrt(head_dim), half of it (as a factor) in each.
        turns = torch.complex(gpt.cos.float(), -gpt.sin.float()) * gpt.shape.head_dim**0.25
        self.turns = turns[:, None, None]  # (context, 1, 1, head_dim / 2): the same for each head
        self.root_head_eps, self.root_stream_eps = (ROOT_EPS * n**0.5 for n in (gpt.shape.head_dim, gpt.shape.width))

    @torch.inference_mode()
    def new_state(self, streams: int = 1, length: int | None = None) -> State:
        """Streams of which nothing has been read yet.

        Args:
            streams: how many.
            length: the largest number of tokens that each may reach; the context if None. Memory is taken at once.
        """
        heads, parts = self.shape.kv_heads, self.parts.heads
        size = (self.shape.depth, 2, parts, streams, heads // parts, length or self.context, self.shape.head_dim)
        return State(torch.empty(size), [[] for _ in range(streams)])

    def step(self, state: State, tokens: Sequence[int]) -> Tensor:
        """Reads one token of each stream: :meth:`read`, with (streams,) tokens."""
        return self.read(state, [[token] for token in tokens])

    @torch.inference_mode()
    def read(self, state: State, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Reads the next tokens of each stream: a prompt, more of it, or the token last chosen.

        Args:
            state: what came before. It takes in the new tokens.
            tokens: for each stream equally many, at least one.

        Returns:
            (streams, vocab_size), float32: the logits of what follows the last of them.

        Raises:
            ValueError: if the tokens do not fit the state or the context. The state is then as it was.
        """
        if torch.is_autocast_enabled("cpu"):  # would turn some products to bfloat16, and not others
            with torch.autocast("cpu", enabled=False):
                return self.read(state, tokens)
        time, end = len(tokens[0]), state.position + len(tokens[0])
        if len(tokens) != state.streams or not time or any(len(row) != time for row in tokens):
            raise ValueError(f"{state.streams} streams take equally many tokens each, not {[len(r) for r in tokens]}")
        if end > min(state.length, self.context):
            raise ValueError(
                f"a row of {end} tokens is longer than the state's {state.length} or the context of {self.context}"
            )
        while time > PIECE:
            self._read(state, [row[:PIECE] for row in tokens])
            tokens, time = [row[PIECE:] for row in tokens], time - PIECE
        return self._read(state, tokens)

    def _read(self, state: State, tokens: Sequence[Sequence[int]]) -> Tensor:
        streams, time = len(tokens), len(tokens[0])
        start, end = state.position, state.position + time
        buffers = state.buffers if time == 1 else None
        if buffers is None:
            ngrams = self.ngrams.longest - 1 if self.ngrams is not None else 0
            buffers = Buffers(self.shape, self.vocab_size, self.parts, ngrams, streams, time)
            if time == 1:
                state.buffers = buffers
        self._embed(state, tokens, buffers)
        self._blocks(state, start, end, buffers)
        scale = buffers.last.scale()
        logits = torch.baddbmm(buffers.logits, buffers.to_head, self.head, beta=0, alpha=scale, out=buffers.logits)
        return logits.tanh_().transpose(0, 1).reshape(streams, -1) * SOFTCAP

    def _embed(self, state: State, tokens: Sequence[Sequence[int]], b: Buffers) -> None:
        """Vectors of the tokens and of their n-grams, normed, into the stream; and the tokens into the state."""
        b.ids_array[:] = tokens
        torch.index_select(self.embedding, 0, b.ids, out=b.embedded)
        for ids, row in zip(state.ids, tokens, strict=True):
            ids.extend(row)
        if self.ngrams is not None:
            time = len(tokens[0])
            b.ngrams_array[:] = [
                self.ngrams.rows_at(ids, place) for ids in state.ids for place in range(len(ids) - time, len(ids))
            ]
            vectors = self.ngram_table.index_select(0, b.ngrams)
            b.embedded.add_(vectors.view(b.embedded.size(0), -1, b.embedded.size(1)).sum(1))
        length = torch.linalg.vector_norm(b.embedded, dim=1, keepdim=True).hypot_(self.root_stream_eps)
        torch.div(b.embedded_by_part, length.unsqueeze(2), out=b.stream_by_row)

    def _blocks(self, state: State, start: int, end: int, b: Buffers) -> None:
        """All blocks: the stream is changed in place."""
        time = end - start
        turn = self.turns.narrow(0, start, time)
        # one call that cuts and one that deals out, for all layers together: 4 instead of 12 us for four layers
        slots = state.slots.narrow(3, start, time).unbind()
        keys, values = state.keys.narrow(3, 0, end).unbind(), state.values.narrow(2, 0, end).unbind()
        future = torch.full((time, end), -torch.inf).triu_(start + 1) if time > 1 else None
        for layer, slot, key, value in zip(self.layers, slots, keys, values, strict=True):
            scale = b.normed.scale()
            torch.baddbmm(b.projected, b.to_heads, layer.query_key_value, beta=0, alpha=scale, out=b.projected)
            # a turn changes no length, so the norm of queries and keys may be divided out afterwards, on the way to
            # where attention reads them; the values, divided by 1, go with the keys
            torch.linalg.vector_norm(b.turned, dim=-1, keepdim=True, out=b.turned_length)
            b.turned_length.hypot_(self.root_head_eps)
            b.pairs.mul_(turn)
            torch.div(b.query, b.query_length, out=b.queries_by_row)
            torch.div(b.key_value, b.key_value_length, out=slot)
            # plain products, because torch's attention takes 33 instead of 29 us for one stream of 300 tokens
            # and 4 heads, and 400 instead of 255 us for eight streams (one thread)
            scores = torch.bmm(b.queries, key)
            if future is not None:
                scores.view(scores.size(0), -1, time, end).add_(future)
            torch.bmm(torch.softmax(scores, -1), value, out=b.found)
            if b.target_of_found is not None:
                b.target_of_found.copy_(b.found_by_row)
            b.stream.baddbmm_(b.to_output, layer.output)

            scale = b.normed.scale()
            torch.baddbmm(b.inner, b.to_inner, layer.expand, beta=0, alpha=scale, out=b.inner).relu_()
            torch.mul(b.inner, b.inner, out=b.target_of_squares)
            b.stream.baddbmm_(b.to_contract, layer.contract)
