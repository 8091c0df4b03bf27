"""Listens while a model reads a text: every vector on its way, without a line of code for it in the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nanochat.model import GPT, fused, gpt, layers
from nanochat.model.layers import Block
from nanochat.model.rotary import rotate


def _nothing() -> Tensor:
    return torch.empty(0)


@dataclass
class BlockActivations:
    """What went through one block; the batch of one is left out of the shapes.

    Attributes:
        before: (time, width), the residual stream that came in.
        attention_in: (time, width), normed.
        query: (time, heads, head_dim), before the rotation; ``key`` and ``value`` have kv_heads.
        turned_query: (heads, time, head_dim), rotated and normed; ``turned_key`` has kv_heads.
        attended: (heads, time, head_dim), the values that each head gathered.
        attention_out: (time, width), what attention adds to the stream.
        middle: (time, width), the stream after that.
        mlp_in: (time, width), normed.
        mlp_out: (time, width), what the MLP adds.
        after: (time, width), the stream that goes out.
        attention_by: the function that attended.
    """

    before: Tensor = field(default_factory=_nothing)
    attention_in: Tensor = field(default_factory=_nothing)
    query: Tensor = field(default_factory=_nothing)
    key: Tensor = field(default_factory=_nothing)
    value: Tensor = field(default_factory=_nothing)
    turned_query: Tensor = field(default_factory=_nothing)
    turned_key: Tensor = field(default_factory=_nothing)
    attended: Tensor = field(default_factory=_nothing)
    attention_out: Tensor = field(default_factory=_nothing)
    middle: Tensor = field(default_factory=_nothing)
    mlp_in: Tensor = field(default_factory=_nothing)
    mlp_out: Tensor = field(default_factory=_nothing)
    after: Tensor = field(default_factory=_nothing)
    attention_by: Callable[..., Any] = F.scaled_dot_product_attention

    def shares(self) -> Tensor:
        """How much each token looks at each other: softmax(q k^T / sqrt(head_dim)), (heads, time, time).

        The model's functions keep no such table, or show it to nobody: it is computed here, from the queries and keys
        that went into them.
        """
        query, key = self.turned_query.float(), self.grouped(self.turned_key).float()
        future = torch.full((query.size(1), query.size(1)), -torch.inf, device=query.device).triu_(1)
        return torch.softmax(query @ key.mT * query.size(-1) ** -0.5 + future, -1)

    def grouped(self, x: Tensor) -> Tensor:
        """Keys or values for each query head, where several share one: (kv_heads, ...) to (heads, ...)."""
        return x.repeat_interleave(self.turned_query.size(0) // x.size(0), 0)

    def rotated(self, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Query and key between rotation and norm, (time, heads, head_dim): the plain formula, on what went in."""
        return rotate(self.query, cos, sin), rotate(self.key, cos, sin)


@dataclass
class Activations:
    """A forward pass.

    Attributes:
        ids: (time,), the tokens read.
        embedding: (time, width), the tokens' vectors.
        start: (time, width), what goes into the first block.
        blocks: in their order.
        hidden: (time, width), the last norm's.
        raw: (time, vocab_size), what the head says.
        logits: (time, vocab_size), float32: what the head says, capped.
        fused: whether the formulas for a CPU of nanochat/model/fused.py ran instead of the plain ones.
    """

    ids: Tensor
    embedding: Tensor = field(default_factory=_nothing)
    start: Tensor = field(default_factory=_nothing)
    blocks: list[BlockActivations] = field(default_factory=list)
    hidden: Tensor = field(default_factory=_nothing)
    raw: Tensor = field(default_factory=_nothing)
    logits: Tensor = field(default_factory=_nothing)
    fused: bool = False


@torch.no_grad()
def record(model: GPT, ids: Tensor) -> Activations:
    """Lets a model read a text, and writes down what passes.

    Args:
        model: in eval mode or not; it is used as it is, and left as it was.
        ids: (time,), int64, at most the context's.
    """
    recording = Activations(ids)
    with ExitStack() as stack:
        _listen_to_modules(model, recording, stack)
        stack.enter_context(_functions_watched(recording))
        recording.logits = model(ids.unsqueeze(0))[0]
    recording.hidden = recording.blocks.pop().attention_in  # the norm that follows the last block
    return recording


def _listen_to_modules(model: GPT, recording: Activations, stack: ExitStack) -> None:
    """Forward hooks on the parts that are modules."""

    def on(module: nn.Module, take: Callable[[Tensor], None]) -> None:
        stack.enter_context(_removed(module.register_forward_hook(lambda _, inputs, output: take(output[0]))))

    on(model.wte, lambda x: setattr(recording, "embedding", x))
    recording.blocks = [BlockActivations()]  # the one that comes next
    for block in model.blocks:
        assert isinstance(block, Block)
        head_dim = block.attn.head_dim

        def into(name: str, heads_of: int | None = None) -> Callable[[Tensor], None]:
            def take(x: Tensor) -> None:
                value = x if heads_of is None else x.unflatten(-1, (-1, heads_of))
                setattr(recording.blocks[-1], name, value)

            return take

        for name, projection in (("query", block.attn.c_q), ("key", block.attn.c_k), ("value", block.attn.c_v)):
            on(projection, into(name, head_dim))
        on(block.attn, into("attention_out"))
        on(block.mlp, into("mlp_out"))

        def at_end(x: Tensor) -> None:
            recording.blocks[-1].after = x
            recording.blocks.append(BlockActivations())

        on(block, at_end)


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    inner = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, inner)


@contextmanager
def _functions_watched(recording: Activations) -> Iterator[None]:
    """The functions that are no modules, for the time of one pass with an ear at their door."""

    def watch(owner: Any, name: str, take: Callable[[tuple[Any, ...], Any], None]) -> Any:
        inner = getattr(owner, name)

        def heard(*args: Any, **kwargs: Any) -> Any:
            result = inner(*args, **kwargs)
            take(args, result)
            return result

        return _replaced(owner, name, heard)

    def norm_of_block(args: tuple[Any, ...], result: Tensor) -> None:
        record = recording.blocks[-1]
        if args[0].ndim != 3:  # queries and keys, below
            return
        if not record.attention_in.numel():
            record.before, record.attention_in = args[0][0], result[0]
        else:
            record.middle, record.mlp_in = args[0][0], result[0]

    def norm_of_model(args: tuple[Any, ...], result: Tensor) -> None:
        if recording.start.numel():
            recording.blocks[-1].attention_in = result[0]
        else:
            recording.start = result[0]

    def turn(args: tuple[Any, ...], result: Tensor) -> None:
        record = recording.blocks[-1]
        setattr(record, "turned_key" if record.turned_query.numel() else "turned_query", result[0])

    def attend(args: tuple[Any, ...], result: Tensor) -> None:
        recording.blocks[-1].attended = result[0]
        recording.blocks[-1].attention_by = attention

    def norm_fused(args: tuple[Any, ...], result: Tensor) -> None:
        recording.fused = True

    attention = fused.attention
    with ExitStack() as stack:
        for watched in (
            watch(layers, "norm", norm_of_block),
            watch(gpt, "norm", norm_of_model),
            watch(layers, "rotate_and_norm", turn),
            watch(gpt, "softcap", lambda args, result: setattr(recording, "raw", args[0][0])),
            watch(fused, "attention", attend),
            watch(fused, "norm", norm_fused),
            _KernelWatched(recording),
        ):
            stack.enter_context(watched)
        yield


class _KernelWatched(TorchFunctionMode):
    """Takes what torch's own attention returns."""

    def __init__(self, recording: Activations) -> None:
        super().__init__()
        self.recording = recording

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            self.recording.blocks[-1].attended = result[0]
        return result
