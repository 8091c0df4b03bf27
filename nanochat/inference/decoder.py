"""Reads texts with a model, a prompt or a token at a time, each token once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nanochat.inference.native import NativeForward, load
from nanochat.inference.stream import Stream
from nanochat.model import GPT
from nanochat.model.layers import causal_attention


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
    """Reads with the model's own blocks, on any device: matrices see all rows at once, attention goes by streams."""

    def __init__(self, gpt: GPT) -> None:
        self.gpt = gpt

    def read(self, streams: list[Stream], counts: list[int]) -> Tensor:
        """As :meth:`NativeForward.read`."""
        gpt, cache = self.gpt, _StreamCaches(streams, counts)
        new = [token for stream, span in cache.spans for token in stream.ids[span.start :]]
        positions = torch.tensor([position for _, span in cache.spans for position in span], device=gpt.device)
        x = gpt.trunk(gpt.embed(torch.tensor([new], device=gpt.device)), positions, cache=cache)[0]
        last = torch.tensor(counts, device=gpt.device).cumsum(0) - 1
        return gpt.unembed(x[last]).cpu()


class _StreamCaches:
    """The caches of several streams whose new tokens lie end to end in one row, for the model's blocks.

    Args:
        streams: with their new tokens.
        counts: number of new tokens of each.

    Attributes:
        spans: each stream with the positions of its new tokens.
    """

    position = 0  # the streams have positions of their own, which are given to the model

    def __init__(self, streams: Sequence[Stream], counts: Sequence[int]) -> None:
        self.spans = [(s, range(s.position - count, s.position)) for s, count in zip(streams, counts, strict=True)]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Each stream's new tokens attend to that stream; tensors are (1, heads, new tokens of all, head_dim)."""
        assert mask is None
        found, begin = [], 0
        for stream, span in self.spans:
            new = slice(begin, begin + len(span))
            begin = new.stop
            keys, values = stream.cache[layer].unbind(1)  # (n_kv_head, length, head_dim) each
            keys[:, span.start : span.stop] = key[0, :, new]
            values[:, span.start : span.stop] = value[0, :, new]
            seen = keys[None, :, : span.stop], values[None, :, : span.stop]
            found.append(causal_attention(query[:, :, new], *seen))
        return torch.cat(found, 2)
