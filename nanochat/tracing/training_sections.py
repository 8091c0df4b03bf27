"""The sections on a training step: loss, gradients, weight updates, and the loss after the step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from nanochat.model import GPT, IGNORE
from nanochat.model.loss import weighted_loss
from nanochat.optim import MuonAdamW
from nanochat.optim.muon import orthogonalize
from nanochat.serving.model import Model
from nanochat.tracing.document import Section, Table, format_number, format_percent, token_text
from nanochat.tracing.source import source_of
from nanochat.tracing.step_recorder import StepRecorder
from nanochat.training.language_model import LanguageModel
from nanochat.training.metrics import gradient_norm

ALGORITHMS = {"muon": "Muon", "adamw": "AdamW"}
TOKENS_SHOWN = 6  # tokens with the highest and with the lowest losses


def loss_section(model: Model, ids: Tensor, targets: Tensor, losses: Tensor) -> Section:
    """The loss of each target; ``ids``, ``targets`` and ``losses`` are (time,)."""
    has_target = targets != IGNORE
    order = losses.masked_fill(~has_target, -1).argsort(descending=True)[: int(has_target.sum())].tolist()
    shown = order if len(order) <= 2 * TOKENS_SHOWN else [*order[:TOKENS_SHOWN], *order[-TOKENS_SHOWN:]]
    rows = [
        (
            token_text(model.tokenizer, int(ids[i])),
            token_text(model.tokenizer, int(targets[i])),
            format_percent(float(torch.exp(-losses[i]))),
            format_number(float(losses[i])),
        )
        for i in shown
    ]
    mean = float(losses[has_target].mean())
    return Section(
        "Loss",
        "The model predicts a probability for each token of the vocabulary at every position. The loss of a position "
        "is minus the natural logarithm of the probability of the token that really follows (cross-entropy): 0 if the "
        f"model was certain of it. The mean loss is {mean:.3f}, over {int(has_target.sum()):,} tokens. The table "
        "starts with the highest losses.",
        [source_of(LanguageModel.training_step, "self.gpt.loss("), source_of(GPT.loss, "weighted_loss(")],
        [("ids", (1, *ids.shape)), ("targets", (1, *targets.shape)), ("losses", (1, *losses.shape))],
        [Table(("token", "next token", "probability", "loss"), rows)],
    )


def gradients_section(gpt: GPT, recorder: StepRecorder) -> Section:
    """Gradient norms by layer."""
    rows: list[Sequence[str]] = []
    for layer, names in _parameters_by_layer(gpt).items():
        norms = {name: float(recorder.gradients[name].norm()) for name in names if name in recorder.gradients}
        largest = max(norms, key=norms.__getitem__, default="")
        detail = f"{_role(largest)} {format_number(norms[largest])}" if len(norms) > 1 else ""
        rows.append((layer, format_number(_root_of_squares(norms.values())), detail))
    total = _root_of_squares(float(gradient.norm()) for gradient in recorder.gradients.values())
    return Section(
        "Gradients",
        "Backpropagation computes the gradient: the derivative of the loss with respect to each weight. The table "
        f"gives its norm by layer; the norm over all weights is {format_number(total)}.",
        [source_of(weighted_loss), source_of(gradient_norm, "get_total_norm")],
        [],
        [Table(("layer", "gradient norm", "largest matrix"), rows)],
    )


def _root_of_squares(norms: Iterable[float]) -> float:
    """The norm of several tensors together."""
    return float(sum(norm**2 for norm in norms) ** 0.5)


def _parameters_by_layer(gpt: GPT) -> dict[str, list[str]]:
    """Parameter names by layer, from the embedding to the head."""
    names = [name for name, _ in gpt.named_parameters()]
    layers = {"embedding": ["transformer.wte.weight"]}
    for i in range(gpt.config.n_layer):
        layers[f"block {i + 1}"] = [name for name in names if name.startswith(f"transformer.h.{i}.")]
    return {**layers, "head": ["lm_head.weight"]}


def _role(name: str) -> str:
    """attn.c_q for transformer.h.0.attn.c_q.weight"""
    return ".".join(name.split(".")[3:-1])


def updates_section(gpt: GPT, recorder: StepRecorder) -> Section:
    """How far the optimizer moved the weights."""
    names = {id(parameter): name for name, parameter in gpt.named_parameters()}
    before = recorder.weights_before
    rows: list[Sequence[str]] = []
    for group in recorder.groups:
        algorithm = f"{ALGORITHMS[group['algorithm']]}, rate {group['lr']:.2g}"
        for role, parameters in _parameters_by_role(names, group["params"]).items():
            change = _root_of_squares(float((p.detach() - before[names[id(p)]]).norm()) for p in parameters)
            weight = _root_of_squares(float(before[names[id(p)]].norm()) for p in parameters)
            relative = format_percent(change / weight) if weight else "from 0"
            rows.append((role, algorithm, format_number(weight), format_number(change), relative))
    note = (
        "The optimizer continues from its state in the checkpoint, with the learning rates from before their decay. "
        "Muon updates the matrices in this step; in a run with small steps it does so only every few steps."
        if recorder.resumed
        else "The checkpoint has no optimizer state: the optimizer starts without momentum, with the learning rates of "
        "a short run."
    )
    return Section(
        "Weight updates",
        "Muon (Jordan 2024, kellerjordan.github.io/posts/muon) updates the matrices in the blocks. It orthogonalizes "
        "the momentum of the gradient, so that all directions in a matrix get the same weight. AdamW (arXiv "
        "1711.05101) updates embedding and head. It divides the average gradient of each weight by the root mean "
        "square of its recent gradients. The table gives the norms of the weights and of their changes, over all "
        "blocks.",
        [
            source_of(LanguageModel.configure_optimizers),
            source_of(MuonAdamW._update),
            source_of(orthogonalize),
        ],
        [],
        [Table(("weights", "optimizer", "norm", "change", "relative"), rows)],
        note,
    )


def _parameters_by_role(names: dict[int, str], parameters: Sequence[nn.Parameter]) -> dict[str, list[nn.Parameter]]:
    """The parameters of an optimizer group by role: embedding, head, or a matrix such as attn.c_q in all blocks."""
    roles: dict[str, list[nn.Parameter]] = {}
    for parameter in parameters:
        name = names[id(parameter)]
        role = _role(name) if name.startswith("transformer.h.") else "head" if "lm_head" in name else "embedding"
        roles.setdefault(role, []).append(parameter)
    return roles


def loss_after_section(model: Model, targets: Tensor, before: Tensor, after: Tensor) -> Section:
    """The losses after the step beside those before it, all (time,)."""
    positions = (targets != IGNORE).nonzero().flatten()
    old, new = float(before[positions].mean()), float(after[positions].mean())
    largest = positions[(before - after)[positions].argsort(descending=True)[:TOKENS_SHOWN]].tolist()
    rows = [
        (
            token_text(model.tokenizer, int(targets[i])),
            format_number(float(before[i])),
            format_number(float(after[i])),
        )
        for i in largest
    ]
    change = (
        f"falls from {old:.3f} to {new:.3f}"
        if new < old
        else f"rises from {old:.3f} to {new:.3f}: the learning rates are too high for this text alone"
    )
    return Section(
        "Loss after the step",
        f"On the same text, the mean loss {change}. A training run repeats such steps thousands of times, on new text "
        "each time. The table lists the tokens whose loss fell most.",
        [source_of(GPT.losses, "token_losses(")],
        [],
        [Table(("token", "before", "after"), rows)],
    )
