"""Records the activations of a forward pass with hooks and wrapped functions; the model's code is not changed."""

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
from nanochat.model.rotary import rotate


def _empty() -> Tensor:
    return torch.empty(0)


@dataclass
class BlockActivations:
    """The activations of one block, without the batch dimension of 1.

    Attributes:
        input: (time, width), the residual stream before the block.
        attention_in: (time, width), the normed input of attention.
        query: (time, heads, head_dim), before the rotation; ``key`` and ``value`` have kv_heads.
        normed_query: (heads, time, head_dim), rotated and normed; ``normed_key`` has kv_heads.
        head_outputs: (heads, time, head_dim), the weighted sum of values of each head.
        attention_out: (time, width), added to the residual stream by attention.
        middle: (time, width), the residual stream between attention and MLP.
        mlp_in: (time, width), the normed input of the MLP.
        mlp_out: (time, width), added to the residual stream by the MLP.
        output: (time, width), the residual stream after the block.
        attention_function: the function that computed the attention.
    """

    input: Tensor = field(default_factory=_empty)
    attention_in: Tensor = field(default_factory=_empty)
    query: Tensor = field(default_factory=_empty)
    key: Tensor = field(default_factory=_empty)
    value: Tensor = field(default_factory=_empty)
    normed_query: Tensor = field(default_factory=_empty)
    normed_key: Tensor = field(default_factory=_empty)
    head_outputs: Tensor = field(default_factory=_empty)
    attention_out: Tensor = field(default_factory=_empty)
    middle: Tensor = field(default_factory=_empty)
    mlp_in: Tensor = field(default_factory=_empty)
    mlp_out: Tensor = field(default_factory=_empty)
    output: Tensor = field(default_factory=_empty)
    attention_function: Callable[..., Any] = F.scaled_dot_product_attention

    @property
    def attended_by_torch(self) -> bool:
        """Whether torch's own kernel computed the attention, not ``fused.attention``."""
        return self.attention_function is F.scaled_dot_product_attention

    def attention_weights(self) -> Tensor:
        """softmax(q k^T / sqrt(head_dim)) with the causal mask, (heads, time, time).

        The model's attention functions do not return the weights, so they are computed here from the same queries and
        keys.
        """
        query, key = self.normed_query.float(), self.repeat_kv(self.normed_key).float()
        future = torch.full((query.size(1), query.size(1)), -torch.inf, device=query.device).triu_(1)
        return torch.softmax(query @ key.mT * query.size(-1) ** -0.5 + future, -1)

    def repeat_kv(self, x: Tensor) -> Tensor:
        """Keys or values repeated for grouped-query attention: (kv_heads, ...) to (heads, ...)."""
        return x.repeat_interleave(self.normed_query.size(0) // x.size(0), 0)

    def rotated(self, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Query and key after the rotation, before the norm, (time, heads, head_dim), by the plain formula."""
        return rotate(self.query, cos, sin), rotate(self.key, cos, sin)


@dataclass
class Activations:
    """The activations of a forward pass, without the batch dimension of 1.

    Attributes:
        ids: (time,), the tokens read.
        embedding: (time, width), the token embeddings.
        first_input: (time, width), the normed embeddings: the input of the first block.
        blocks: from the first to the last.
        hidden: (time, width), the output of the last norm.
        raw_logits: (time, vocab_size), the output of the head, before the soft cap.
        logits: (time, vocab_size), float32, after the soft cap.
        fused: whether the CPU implementations in nanochat/model/fused.py ran.
    """

    ids: Tensor
    embedding: Tensor = field(default_factory=_empty)
    first_input: Tensor = field(default_factory=_empty)
    blocks: list[BlockActivations] = field(default_factory=list)
    hidden: Tensor = field(default_factory=_empty)
    raw_logits: Tensor = field(default_factory=_empty)
    logits: Tensor = field(default_factory=_empty)
    fused: bool = False


@torch.no_grad()
def record(model: GPT, ids: Tensor) -> Activations:
    """Runs one forward pass and records its activations.

    Args:
        model: in eval or training mode; hooks and wrappers are removed afterwards.
        ids: (time,), int64, at most as long as the context.

    Raises:
        ValueError: if the text is longer than the context.
    """
    activations = Activations(ids)
    with ExitStack() as stack:
        _hook_modules(model, activations, stack)
        _wrap_functions(activations, stack)
        activations.logits = model(ids.unsqueeze(0))[0]
    activations.hidden = activations.blocks.pop().attention_in  # the last norm follows the last block
    return activations


def _hook_modules(model: GPT, activations: Activations, stack: ExitStack) -> None:
    """Registers forward hooks on all modules whose outputs are recorded.

    ``activations.blocks[-1]`` is the block that runs now. When it ends, the hook appends an empty record for the next
    one.
    """

    def on(module: nn.Module, take: Callable[[Tensor], None]) -> None:
        handle = module.register_forward_hook(lambda _, inputs, output: take(output[0]))
        stack.callback(handle.remove)

    def store(name: str, head_dim: int | None = None) -> Callable[[Tensor], None]:
        def take(x: Tensor) -> None:
            setattr(activations.blocks[-1], name, x if head_dim is None else x.unflatten(-1, (-1, head_dim)))

        return take

    def end_block(x: Tensor) -> None:
        activations.blocks[-1].output = x
        activations.blocks.append(BlockActivations())

    on(model.wte, lambda x: setattr(activations, "embedding", x))
    activations.blocks = [BlockActivations()]
    for block in model.blocks:
        attention = block.attn
        for name, projection in (("query", attention.c_q), ("key", attention.c_k), ("value", attention.c_v)):
            on(projection, store(name, attention.head_dim))
        on(attention, store("attention_out"))
        on(block.mlp, store("mlp_out"))
        on(block, end_block)


@contextmanager
def _replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _wrap_functions(activations: Activations, stack: ExitStack) -> None:
    """Wraps the functions that are not modules, so that their arguments and results are recorded."""

    def wrap(owner: Any, name: str, take: Callable[[tuple[Any, ...], Any], None]) -> None:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            take(args, result)
            return result

        stack.enter_context(_replaced(owner, name, wrapper))

    def norm_of_block(args: tuple[Any, ...], result: Tensor) -> None:
        block = activations.blocks[-1]
        if args[0].ndim != 3:  # the norm of queries or keys
            return
        if not block.attention_in.numel():
            block.input, block.attention_in = args[0][0], result[0]
        else:
            block.middle, block.mlp_in = args[0][0], result[0]

    def norm_of_model(args: tuple[Any, ...], result: Tensor) -> None:
        if activations.first_input.numel():
            activations.blocks[-1].attention_in = result[0]  # the last norm: `record` moves it to `hidden`
        else:
            activations.first_input = result[0]

    def rotate_and_norm(args: tuple[Any, ...], result: Tensor) -> None:
        block = activations.blocks[-1]
        setattr(block, "normed_key" if block.normed_query.numel() else "normed_query", result[0])

    fused_attention = fused.attention

    def attention(args: tuple[Any, ...], result: Tensor) -> None:
        activations.blocks[-1].head_outputs = result[0]
        activations.blocks[-1].attention_function = fused_attention

    wrap(layers, "norm", norm_of_block)
    wrap(gpt, "norm", norm_of_model)
    wrap(layers, "rotate_and_norm", rotate_and_norm)
    wrap(gpt, "softcap", lambda args, result: setattr(activations, "raw_logits", args[0][0]))
    wrap(fused, "attention", attention)
    wrap(fused, "norm", lambda args, result: setattr(activations, "fused", True))
    stack.enter_context(_TorchAttentionRecorder(activations))


class _TorchAttentionRecorder(TorchFunctionMode):
    """Records the result of ``F.scaled_dot_product_attention``."""

    def __init__(self, activations: Activations) -> None:
        super().__init__()
        self.activations = activations

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            self.activations.blocks[-1].head_outputs = result[0]
        return result
