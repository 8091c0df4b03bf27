"""Runs one training step on a copy of the model and explains it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nanochat.model import IGNORE
from nanochat.serving.model import Model
from nanochat.tokenizer import render
from nanochat.tokenizer.conversation import Message
from nanochat.tracing.document import Chapter
from nanochat.tracing.single_batch import SingleBatch
from nanochat.tracing.step_recorder import StepRecorder
from nanochat.tracing.training_sections import gradients_section, loss_after_section, loss_section, updates_section
from nanochat.training.checkpoint.loading import load_checkpoint
from nanochat.training.dry_run import dry_run
from nanochat.training.language_model import LanguageModel


def training_chapter(model: Model, prompt: str, text: str | None) -> Chapter:
    """Trains a copy of the model for one step.

    Args:
        model: is not changed.
        prompt: the question to a chat model, or the training text of a base model.
        text: another training text for a base model, or the target answer of a chat model; None for the model's own
            answer.

    Raises:
        ValueError: if the text has no token to predict.
    """
    ids, targets, description = training_example(model, prompt, text)
    module = _copy_of(model)
    recorder = StepRecorder(_optimizer_state(model))
    before = module.gpt.losses(ids[None], targets[None])[0].detach()
    data = SingleBatch(ids, targets, model.tokenizer)
    dry_run(module, data, accelerator="cpu", precision="32-true", max_steps=1, callbacks=[recorder])
    with torch.no_grad():
        after = module.gpt.losses(ids[None], targets[None])[0]
    sections = [
        loss_section(model, ids, targets, before),
        gradients_section(module.gpt, recorder),
        updates_section(module.gpt, recorder),
        loss_after_section(model, targets, before, after),
    ]
    return Chapter(
        "One training step", f"On a copy of the model, trained on {description}. Nothing is saved.", sections
    )


def training_example(model: Model, prompt: str, text: str | None) -> tuple[Tensor, Tensor, str]:
    """Ids and targets, both (time,), and a description of them. Targets of ``IGNORE`` have no loss."""
    if model.is_chat:
        answer = text if text is not None else _own_answer(model, prompt)
        messages: list[Message] = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        all_ids, mask = render(model.tokenizer, messages)
        description = "the model's own answer to the prompt" if text is None else "the answer in --text"
    else:
        all_ids = [model.tokenizer.bos, *model.tokenizer.encode(prompt if text is None else text)]
        mask = [1] * len(all_ids)
        description = "the prompt" if text is None else "the text in --text"
    if len(all_ids) > model.context + 1:
        all_ids, mask = all_ids[: model.context + 1], mask[: model.context + 1]
        description += f", cut to its first {len(all_ids):,} tokens to fit the context"
    ids, targets = torch.tensor(all_ids[:-1]), torch.tensor(all_ids[1:])
    targets[torch.tensor(mask[1:]) == 0] = IGNORE
    if not (targets != IGNORE).any():
        raise ValueError("--train needs at least one token to predict: give a longer --text")
    return ids, targets, description


def _own_answer(model: Model, prompt: str) -> list[dict[str, str]]:
    """The model's greedy answer in message parts: text, calculator calls and calculator outputs."""
    answer = model.start([{"role": "user", "content": prompt}], temperature=0.0, max_tokens=model.context // 4)
    model.engine.run([answer])
    return answer.parts or [{"type": "text", "text": ""}]


def _copy_of(model: Model) -> LanguageModel:
    """A LanguageModel with a copy of the model's weights."""
    module = LanguageModel(**model.gpt.config.to_hyperparameters(), compile=False)
    module.gpt.load_state_dict(model.gpt.state_dict())  # copies the values
    return module


def _optimizer_state(model: Model) -> dict[str, Any] | None:
    """The optimizer state in the checkpoint; None if the checkpoint contains only weights."""
    states = load_checkpoint(model.path).get("optimizer_states") or []
    return states[0] if states else None
