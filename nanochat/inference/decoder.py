"""Reads texts with a model, a prompt or a token at a time, each token once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nanochat.inference.native import NativeForward, load
from nanochat.inference.stream import Stream
from nanochat.model import GPT
from nanochat.model.layers import Block, norm, rotate_and_norm
from nanochat.model.loss import softcap


class Decoder:
    """Reads the next tokens of any number of streams together: the weights are read once for all of them.

    On a CPU with a C++ compiler it runs :mod:`nanochat.inference.native`, elsewhere plain torch. The logits are those
    of the model's own forward pass, to rounding. In C++ those of one stream do not depend, to the last bit, on which
    others are read with it.

    Args:
        gpt: a whole model; on a CPU its matrices are copied, so that what becomes of it afterwards does not matter.
        build: whether to compile the C++ if that has not been done on this machine.
    """

    def __init__(self, gpt: GPT, build: bool = True) -> None:
        self.gpt, self.context, self.vocab_size = gpt, gpt.context, gpt.vocab_size
        library = load(build) if fits_native(gpt) else None
        self.forward = NativeForward(library, gpt) if library is not None else TorchForward(gpt)

    @property
    def is_native(self) -> bool:
        return isinstance(self.forward, NativeForward)

    def new_stream(self, length: int | None = None) -> Stream:
        """A stream of which nothing has been read.

        Args:
            length: the largest number of tokens that it may reach; the context if None.
        """
        return Stream(self.gpt, length or self.context, torch.float32 if self.is_native else self.gpt.activation_dtype)

    @torch.inference_mode()
    def read(self, streams: Sequence[Stream], tokens: Sequence[Sequence[int]]) -> Tensor:
        """Reads the next tokens of each stream.

        Args:
            streams: different ones. They take in their new tokens.
            tokens: of each stream, at least one: a prompt, more of it, or the token last chosen.

        Returns:
            (streams, vocab_size), float32, on the CPU: the logits of what follows each one's last token.

        Raises:
            ValueError: if tokens are missing, unknown, or do not fit. The streams are then as they were.
        """
        if len(streams) != len(tokens) or not all(tokens):
            raise ValueError(f"{len(streams)} streams take at least a token each, not {[len(t) for t in tokens]}")
        for stream, new in zip(streams, tokens, strict=True):
            if stream.position + len(new) > min(stream.length, self.context):
                raise ValueError(
                    f"a text of {stream.position + len(new)} tokens is longer than the stream's {stream.length} or the "
                    f"context of {self.context}"
                )
            if min(new) < 0 or max(new) >= self.vocab_size:
                raise ValueError(f"tokens must be from 0 to {self.vocab_size - 1}, not from {min(new)} to {max(new)}")
        for stream, new in zip(streams, tokens, strict=True):
            stream.extend(new)
        return self.forward.read(list(streams), [len(new) for new in tokens])


def fits_native(gpt: GPT) -> bool:
    """Whether the whole model is on the CPU."""
    return not is_sharded(gpt) and all(p.device.type == "cpu" for p in gpt.parameters())


def is_sharded(gpt: GPT) -> bool:
    """Whether the model is dealt out to several devices: of such a tensor each has a "local" part."""
    return any(hasattr(p, "to_local") for p in gpt.parameters())


class TorchForward:
    """The same in torch, for any device: all rows go through the matrices together, attention goes by streams."""

    def __init__(self, gpt: GPT) -> None:
        self.gpt = gpt

    def read(self, streams: list[Stream], counts: list[int]) -> Tensor:
        """As :meth:`NativeForward.read`."""
        gpt, device = self.gpt, self.gpt.embedding.weight.device
        spans = [range(s.position - n, s.position) for s, n in zip(streams, counts, strict=True)]
        new = [stream.ids[span.start :] for stream, span in zip(streams, spans, strict=True)]
        x = gpt.embedding(torch.tensor([i for row in new for i in row], device=device))
        x = norm(x.to(gpt.activation_dtype))
        positions = torch.tensor([place for span in spans for place in span], device=device)
        cos, sin = gpt.cos[positions].to(x.dtype), gpt.sin[positions].to(x.dtype)
        for layer, block in enumerate(gpt.blocks):
            assert isinstance(block, Block)
            x = x + self._attention(block, layer, norm(x), cos, sin, streams, spans)
            x = x + block.mlp(norm(x))
        last = norm(x[torch.tensor(counts).cumsum(0).sub(1).to(device)])
        return softcap(F.linear(last, gpt.head.weight)).cpu()

    @staticmethod
    def _attention(
        block: Block, layer: int, x: Tensor, cos: Tensor, sin: Tensor, streams: list[Stream], spans: list[range]
    ) -> Tensor:
        attention, found = block.attention, []
        # (1, rows, heads, head_dim) to (heads, rows, head_dim)
        query, key, value = (m(x).view(1, x.size(0), -1, attention.head_dim) for m in block.attention.projections)
        query, key = (rotate_and_norm(vectors, cos, sin)[0] for vectors in (query, key))
        value, begin = value[0].transpose(0, 1), 0
        for stream, span in zip(streams, spans, strict=True):
            mine = slice(begin, begin + len(span))
            begin += len(span)
            cache = stream.cache[layer]  # (kv_heads, 2, length, head_dim)
            cache[:, 0, span.start : span.stop] = key[:, mine]
            cache[:, 1, span.start : span.stop] = value[:, mine]
            mask = None
            if len(span) > 1:  # each of several new tokens sees all older ones and its own past
                mask = torch.ones(len(span), span.stop, dtype=torch.bool, device=x.device).tril(span.start)
            grouped = attention.heads != attention.kv_heads
            seen = (query[None, :, mine], cache[None, :, 0, : span.stop], cache[None, :, 1, : span.stop])
            y = F.scaled_dot_product_attention(*seen, attn_mask=mask, enable_gqa=grouped)
            found.append(y[0].transpose(0, 1))
        return block.attention.output(torch.cat(found).flatten(1))
