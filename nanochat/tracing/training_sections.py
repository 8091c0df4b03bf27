"""What a step of training is told by: the loss, gradients by layer, what the optimizer changed, the loss afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nanochat.model import GPT, IGNORE
from nanochat.model.loss import weighted_loss
from nanochat.optim import MuonAdamW
from nanochat.optim.muon import orthogonalize
from nanochat.serving.model import Model
from nanochat.tracing.document import Section, Table, number, percent, token_text
from nanochat.tracing.source import source_of
from nanochat.tracing.step_recorder import StepRecorder
from nanochat.training.language_model import LanguageModel

ALGORITHMS = {"muon": "Muon", "adamw": "AdamW"}
GUESSES = 6  # tokens that are named among the best and the worst guessed


def loss_section(model: Model, ids: Tensor, targets: Tensor, losses: Tensor) -> Section:
    learned = targets != IGNORE
    order = losses.masked_fill(~learned, -1).argsort(descending=True)[: int(learned.sum())].tolist()
    shown = order if len(order) <= 2 * GUESSES else [*order[:GUESSES], *order[-GUESSES:]]
    rows = [
        (
            token_text(model.tokenizer, int(ids[i])),
            token_text(model.tokenizer, int(targets[i])),
            percent(float(torch.exp(-losses[i]))),
            number(float(losses[i])),
        )
        for i in shown
    ]
    mean = float(losses[learned].mean())
    return Section(
        "The loss",
        "At each place the model says how likely each token is to come next. The loss of a place is minus the "
        f"logarithm of what it gave to the token that did come: 0 if it was sure of it. The mean here is {mean:.3f}, "
        f"over {int(learned.sum()):,} tokens; the surprises come first.",
        [source_of(LanguageModel.training_step, "self.gpt.loss("), source_of(GPT.loss, "weighted_loss(")],
        [("ids", (1, *ids.shape)), ("targets", (1, *targets.shape)), ("losses", (1, *losses.shape))],
        [Table(("after", "came", "likely by", "loss"), rows)],
    )


def gradients_section(gpt: GPT, watch: StepRecorder) -> Section:
    rows: list[Sequence[str]] = []
    for title, names in _layers(gpt).items():
        norms = {name: float(watch.gradients[name].norm()) for name in names if name in watch.gradients}
        whole = sum(v**2 for v in norms.values()) ** 0.5
        most = max(norms, key=norms.__getitem__, default="")
        rows.append((title, number(whole), f"{_short(most)} {number(norms[most])}" if len(norms) > 1 else ""))
    total = sum(float(g.norm()) ** 2 for g in watch.gradients.values()) ** 0.5
    return Section(
        "Gradients",
        "Going back from the loss, calculus says of each number in the model how the loss would change if that number "
        f"grew a little. The lengths of these gradients, by layer (all together {number(total)}):",
        [source_of(weighted_loss), source_of(LanguageModel.gradient_norm, "get_total_norm")],
        [],
        [Table(("layer", "length", "most of it in"), rows)],
    )


def _layers(gpt: GPT) -> dict[str, list[str]]:
    """The names of the parameters, in the order of the way of the data."""
    names = [name for name, _ in gpt.named_parameters()]
    layers = {"embedding": ["transformer.wte.weight"]}
    for i in range(gpt.config.n_layer):
        layers[f"block {i + 1}"] = [name for name in names if name.startswith(f"transformer.h.{i}.")]
    return {**layers, "head": ["lm_head.weight"]}


def _short(name: str) -> str:
    """attn.c_q of transformer.h.0.attn.c_q.weight"""
    return ".".join(name.split(".")[3:-1])


def changes_section(gpt: GPT, watch: StepRecorder) -> Section:
    names = {id(parameter): name for name, parameter in gpt.named_parameters()}
    rows: list[Sequence[str]] = []
    for group in watch.groups:
        parameters: list[nn.Parameter] = group["params"]
        kind = f"{ALGORITHMS[group['algorithm']]}, rate {group['lr']:.2g}"
        for name, members in _members(names, parameters).items():
            change = sum(float((p.detach() - watch.before[names[id(p)]]).norm()) ** 2 for p in members) ** 0.5
            weight = sum(float(watch.before[names[id(p)]].norm()) ** 2 for p in members) ** 0.5
            ratio = percent(change / weight) if weight else "from 0"
            rows.append((name, kind, number(weight), number(change), ratio))
    resumed = (
        "It goes on from the averages that the run has gathered, at the rates from before they fell at its end; Muon "
        "moves at once, where in a run of small steps it gathers several."
        if watch.resumed
        else "The file holds no optimizer's state, so it begins anew, at the rates of a short run."
    )
    return Section(
        "What the optimizer changes",
        "Each kind of weight has its own algorithm. Muon gives every direction of a block's matrices the same say, "
        "AdamW scales each number of embedding and head by how large its gradients have been.",
        [source_of(MuonAdamW._update), source_of(orthogonalize)],
        [],
        [Table(("weights", "algorithm", "length", "change", "share"), rows)],
        resumed,
    )


def _members(names: dict[int, str], parameters: Sequence[nn.Parameter]) -> dict[str, list[nn.Parameter]]:
    """The parameters of an optimizer's group by kind; those of the blocks by their role, over all blocks."""
    members: dict[str, list[nn.Parameter]] = {}
    for parameter in parameters:
        name = names[id(parameter)]
        kind = _short(name) if name.startswith("transformer.h.") else "head" if "lm_head" in name else "embedding"
        members.setdefault(kind, []).append(parameter)
    return members


def loss_after_section(model: Model, targets: Tensor, before: Tensor, after: Tensor) -> Section:
    learned = targets != IGNORE
    old, new = float(before[learned].mean()), float(after[learned].mean())
    which = learned.nonzero().flatten()
    gains = (before - after)[which].argsort(descending=True)[:GUESSES].tolist()
    rows = [
        (
            token_text(model.tokenizer, int(targets[which[i]])),
            number(float(before[which[i]])),
            number(float(after[which[i]])),
        )
        for i in gains
    ]
    verdict = "less surprised" if new < old else "more surprised: so large a step for one text alone goes too far"
    return Section(
        "The loss afterwards",
        f"Reading the same once more, the mean is {new:.3f} instead of {old:.3f}: the model is {verdict}. A run does "
        "this thousands of times, on ever new text.",
        [source_of(LanguageModel.configure_optimizers)],
        [],
        [Table(("came", "before", "after"), rows)],
    )
