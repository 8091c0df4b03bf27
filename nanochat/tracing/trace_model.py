"""The whole trace of a loaded model: what it is asked, and the parts of the answer."""

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
    """What a trace is to show.

    Attributes:
        prompt: a text; a question if the model is a chat model.
        layer: the block in detail, from 1.
        temperature: at which the next token is drawn; None for the one that suits the model.
        seed: of the draws.
        train: whether a step of training is shown.
        text: what that learns; None for the prompt, or a chat model's own answer to it.
    """

    prompt: str
    layer: int = 1
    temperature: float | None = None
    seed: int = 0
    train: bool = False
    text: str | None = None


def trace_model(model: Model, asked: TraceOptions) -> list[Chapter]:
    """Lets the model read, and tells the way of the data.

    Raises:
        ValueError: if there is no such block, or the text is longer than the model's context.
    """
    depth = model.gpt.config.n_layer
    if not 1 <= asked.layer <= depth:
        raise ValueError(f"--layer={asked.layer}: this model has the blocks 1 to {depth}")
    settings = Sampling(model.temperature(asked.temperature))
    ids = prompt_ids(model.tokenizer, asked.prompt, model.is_chat)
    if len(ids) > model.context:
        raise ValueError(f"the prompt has {len(ids):,} tokens, and the model's context takes in {model.context:,}")
    recording = record(model.gpt, torch.tensor(ids))
    sampler = Sampler(settings, asked.seed)
    parts = forward_chapters(model.gpt, model.tokenizer, recording, asked.layer - 1, model.is_chat, sampler)
    if asked.train:
        from nanochat.tracing.training_step import training_chapter  # Lightning takes seconds to import

        parts.append(training_chapter(model, asked.prompt, asked.text))
    return parts


def title(model: Model, asked: TraceOptions) -> list[str]:
    """What is traced: a heading, and lines below it."""
    gpt, shape = model.gpt, model.gpt.config
    kind = "a chat model" if model.is_chat else "a base model"
    return [
        f"How {model.name} reads {asked.prompt!r}",
        f"{kind}, {gpt.num_parameters:,} parameters: depth {shape.n_layer}, width {shape.n_embd}, "
        f"{shape.n_head} heads, vocabulary {shape.vocab_size:,}",
        f"{model.path}",
        "What runs here is the model itself, in torch and float32. To write whole texts, chat takes a decoder that "
        "computes the same: nanochat/inference/decoder.py",
    ]
