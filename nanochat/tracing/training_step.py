"""One step of training on a copy of the model: the loss, where its gradients are, and what the optimizer changes."""

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
from nanochat.tracing.training_sections import changes_section, gradients_section, loss_after_section, loss_section
from nanochat.training.bare import fit_bare
from nanochat.training.checkpoint_files import load_checkpoint
from nanochat.training.language_model import LanguageModel


def training_chapter(model: Model, prompt: str, text: str | None) -> Chapter:
    """Trains a copy of the model for one step, and tells what happened.

    Args:
        model: it stays as it is.
        prompt: what a chat model is asked, or what a base model learns.
        text: what a base model learns instead, or the answer that a chat model learns; None for its own.

    Raises:
        ValueError: if there is nothing to learn.
    """
    ids, targets, what = material(model, prompt, text)
    module = _copy_of(model)
    watch = StepRecorder(_optimizer_state(model))
    before = module.gpt.losses(ids[None], targets[None])[0].detach()
    _one_step(module, model, ids, targets, watch)
    with torch.no_grad():
        after = module.gpt.losses(ids[None], targets[None])[0]
    steps = [
        loss_section(model, ids, targets, before),
        gradients_section(module.gpt, watch),
        changes_section(module.gpt, watch),
        loss_after_section(model, targets, before, after),
    ]
    return Chapter(
        "One step of training", f"On a copy of the model, which learns from {what}. Nothing is saved.", steps
    )


def material(model: Model, prompt: str, text: str | None) -> tuple[Tensor, Tensor, str]:
    """Ids, targets, both (time,), and what they are in words. A target of ``IGNORE`` is not learned."""
    if model.is_chat:
        answer = text if text is not None else _own_answer(model, prompt)
        messages: list[Message] = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        all_ids, mask = render(model.tokenizer, messages)
        what = f"an answer to the prompt: {'its own' if text is None else 'the one in --text'}"
    else:
        all_ids = [model.tokenizer.bos, *model.tokenizer.encode(prompt if text is None else text)]
        mask = [1] * len(all_ids)
        what = "the prompt" if text is None else "--text"
    if len(all_ids) > model.context + 1:
        all_ids, mask = all_ids[: model.context + 1], mask[: model.context + 1]
        what += f" (its first {len(all_ids):,} tokens, as many as the context takes in)"
    ids, targets = torch.tensor(all_ids[:-1]), torch.tensor(all_ids[1:])
    targets[torch.tensor(mask[1:]) == 0] = IGNORE
    if not (targets != IGNORE).any():
        raise ValueError("there is nothing to learn in that: a step of training needs a token to be predicted")
    return ids, targets, what


def _own_answer(model: Model, prompt: str) -> list[dict[str, str]]:
    """What the model says, in parts: the text, its calls of the calculator, and what that told it."""
    answer = model.start([{"role": "user", "content": prompt}], temperature=0.0, max_tokens=model.context // 4)
    model.engine.run([answer])
    return answer.parts or [{"type": "text", "text": ""}]


def _copy_of(model: Model) -> LanguageModel:
    """A LanguageModel with the weights of this one, which is left alone."""
    module = LanguageModel(**model.gpt.config.to_hyperparameters(), compile=False)
    module.gpt.load_state_dict({name: weight.clone() for name, weight in model.gpt.state_dict().items()})
    return module


def _optimizer_state(model: Model) -> dict[str, Any] | None:
    """What the run's optimizer remembered; None where a checkpoint holds weights alone."""
    states = load_checkpoint(model.path).get("optimizer_states") or []
    return states[0] if states else None


def _one_step(module: LanguageModel, model: Model, ids: Tensor, targets: Tensor, watch: StepRecorder) -> None:
    """Lightning's own loop, for one step on one row, without logs and files."""
    data = SingleBatch(ids, targets, model.tokenizer)
    fit_bare(module, data, accelerator="cpu", precision="32-true", max_steps=1, callbacks=[watch])
