"""Traces a loaded model: runs the forward pass, and a training step if asked, and returns the chapters."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nanochat.inference.sampling import Sampler, Sampling
from nanochat.serving.model import Model
from nanochat.tokenizer import prompt_ids
from nanochat.tracing.activation_recorder import record
from nanochat.tracing.document import Chapter
from nanochat.tracing.forward import forward_chapters


class TraceOptions(NamedTuple):
    """The options of a trace.

    Attributes:
        prompt: the text to read; for a chat model, a question.
        layer: the block that is explained in detail, from 1.
        temperature: sampling temperature of the next token; None for the model's default.
        seed: of the sampling.
        train: whether to add a training step.
        text: the training text, or a chat model's target answer; None for the prompt, or the model's own answer.
    """

    prompt: str
    layer: int = 1
    temperature: float | None = None
    seed: int = 0
    train: bool = False
    text: str | None = None


def trace_model(model: Model, options: TraceOptions) -> list[Chapter]:
    """Runs the model on the prompt and explains each operation.

    Raises:
        ValueError: if the model has no such block, or the prompt is longer than its context.
    """
    depth = model.gpt.config.n_layer
    if not 1 <= options.layer <= depth:
        raise ValueError(f"--layer={options.layer}: this model has blocks 1 to {depth}")
    settings = Sampling(model.temperature(options.temperature))
    ids = prompt_ids(model.tokenizer, options.prompt, model.is_chat)
    if len(ids) > model.context:
        raise ValueError(
            f"the prompt has {len(ids):,} tokens, but the model's context is {model.context:,}: shorten --prompt"
        )
    activations = record(model.gpt, torch.tensor(ids))
    sampler = Sampler(settings, options.seed)
    chapters = forward_chapters(model.gpt, model.tokenizer, activations, options.layer - 1, model.is_chat, sampler)
    if options.train:
        from nanochat.tracing.training_step import training_chapter  # Lightning takes seconds to import

        chapters.append(training_chapter(model, options.prompt, options.text))
    return chapters


def heading(model: Model, options: TraceOptions) -> list[str]:
    """The title of the trace, then lines of description."""
    gpt, config = model.gpt, model.gpt.config
    kind = "Chat model" if model.is_chat else "Base model"
    return [
        f"How {model.name} reads {options.prompt!r}",
        f"{kind}, {gpt.num_parameters:,} parameters: depth {config.n_layer}, width {config.n_embd}, "
        f"{config.n_head} heads, vocabulary {config.vocab_size:,}",
        f"{model.path}",
        "Computed by the PyTorch model in float32. The chat command uses a faster decoder with the same results: "
        "nanochat/inference/decoder.py",
    ]
