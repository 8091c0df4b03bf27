"""One step of training on a copy of the model: the loss, where its gradients are, and what the optimizer changes."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from nanochat.model import IGNORE
from nanochat.model.gpt import GPT
from nanochat.model.loss import weighted_loss
from nanochat.optim import MuonAdamW
from nanochat.optim.muon import orthogonalize
from nanochat.optim.rows import step_rows
from nanochat.serving.model import Model
from nanochat.tokenizer import render
from nanochat.tracing.one_row import OneRow
from nanochat.tracing.source import source_of
from nanochat.tracing.story import Part, Step, Table, number, percent, token_text
from nanochat.training.checkpoint_files import load_checkpoint
from nanochat.training.language_model import LanguageModel

ALGORITHMS = {"muon": "Muon", "adamw": "AdamW", "rows": "Adagrad by rows"}
GUESSES = 6  # tokens that are named among the best and the worst guessed


class Watch(Callback):
    """Takes down what a step of the real training loop does to the model, and lets it go on from the run's state.

    Args:
        optimizer_state: of the checkpoint; None if it has none.

    Attributes:
        gradients: by the names of the parameters, dense.
        before: the parameters before the step.
        resumed: whether the optimizer went on from the checkpoint's state.
        groups: the optimizer's, with the rates at which it moved.
    """

    def __init__(self, optimizer_state: dict[str, Any] | None) -> None:
        self.optimizer_state = optimizer_state
        self.gradients: dict[str, Tensor] = {}
        self.before: dict[str, Tensor] = {}
        self.groups: list[dict[str, Any]] = []
        self.resumed = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over averages and rates of the run, the rates as they were before they fell at its end."""
        optimizer = trainer.optimizers[0]
        if self.optimizer_state is not None and _fits(optimizer, self.optimizer_state):
            optimizer.load_state_dict(copy.deepcopy(self.optimizer_state))
            self.resumed = True
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])
            if group["algorithm"] == "muon":
                group["every"] = 1  # it would gather several steps, and show nothing in most of them

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        assert isinstance(pl_module, LanguageModel)
        for name, parameter in pl_module.gpt.named_parameters():
            self.before[name] = parameter.detach().clone()
            if parameter.grad is not None:
                gradient = parameter.grad.detach()
                self.gradients[name] = gradient.to_dense() if gradient.is_sparse else gradient.clone()
        self.groups = [dict(group) for group in optimizer.param_groups]


def _fits(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> bool:
    """Whether a saved state belongs to an optimizer of these groups."""
    saved = state.get("param_groups", [])
    return [len(g["params"]) for g in saved] == [len(g["params"]) for g in optimizer.param_groups] and [
        g.get("name") for g in saved
    ] == [g.get("name") for g in optimizer.param_groups]


def training_part(model: Model, prompt: str, text: str | None) -> Part:
    """Trains a copy of the model for one step, and tells what happened.

    Args:
        model: it stays as it is.
        prompt: what a chat model is asked, or what a base model learns.
        text: what a base model learns instead, or the answer that a chat model learns; None for its own.

    Raises:
        ValueError: if there is nothing to learn.
    """
    ids, targets, what = material(model, prompt, text)
    module = _copy_of(model, len(ids))
    watch = Watch(_optimizer_state(model))
    before = module.gpt.losses(ids[None], targets[None])[0].detach()
    _one_step(module, model, ids, targets, watch)
    with torch.no_grad():
        after = module.gpt.losses(ids[None], targets[None])[0]
    steps = [
        _loss(model, ids, targets, before),
        _gradients(module.gpt, watch),
        _changes(module.gpt, watch),
        _afterwards(model, targets, before, after),
    ]
    return Part("One step of training", f"On a copy of the model, which learns from {what}. Nothing is saved.", steps)


def material(model: Model, prompt: str, text: str | None) -> tuple[Tensor, Tensor, str]:
    """Ids, targets, both (time,), and what they are in words. A target of ``IGNORE`` is not learned."""
    if model.is_chat:
        answer = text if text is not None else model.chat(prompt, temperature=0.0, max_tokens=model.context // 4)
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
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


def _copy_of(model: Model, tokens: int) -> LanguageModel:
    """A LanguageModel with the weights of this one, which is left alone."""
    module = LanguageModel(**model.gpt.sizes, compile=False)
    module.gpt.load_state_dict({name: weight.clone() for name, weight in model.gpt.state_dict().items()})
    return module


def _optimizer_state(model: Model) -> dict[str, Any] | None:
    """What the run's optimizer remembered; None where a checkpoint holds weights alone."""
    states = load_checkpoint(model.path).get("optimizer_states") or []
    return states[0] if states else None


def _one_step(module: LanguageModel, model: Model, ids: Tensor, targets: Tensor, watch: Watch) -> None:
    """Lightning's own loop, for one step on one row, without logs and files."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one row is few, and that nothing is logged
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            precision="32-true",
            max_steps=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            callbacks=[watch],
        )
        trainer.fit(module, datamodule=OneRow(ids, targets, model.tokenizer))


def _loss(model: Model, ids: Tensor, targets: Tensor, losses: Tensor) -> Step:
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
    return Step(
        "The loss",
        "At each place the model says how likely each token is to come next. The loss of a place is minus the "
        f"logarithm of what it gave to the token that did come: 0 if it was sure of it. The mean here is {mean:.3f}, "
        f"over {int(learned.sum()):,} tokens; the surprises come first.",
        [source_of(LanguageModel.training_step, "self.gpt.loss("), source_of(GPT.loss, "weighted_loss(")],
        [("ids", (1, *ids.shape)), ("targets", (1, *targets.shape)), ("losses", (1, *losses.shape))],
        [Table(("after", "came", "likely by", "loss"), rows)],
    )


def _gradients(gpt: GPT, watch: Watch) -> Step:
    rows: list[Sequence[str]] = []
    for title, names in _layers(gpt).items():
        norms = {name: float(watch.gradients[name].norm()) for name in names if name in watch.gradients}
        whole = sum(v**2 for v in norms.values()) ** 0.5
        most = max(norms, key=norms.__getitem__, default="")
        rows.append((title, number(whole), f"{_short(most)} {number(norms[most])}" if len(norms) > 1 else ""))
    total = sum(float(g.norm()) ** 2 for g in watch.gradients.values()) ** 0.5
    return Step(
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
    layers = {"embedding": ["embedding.weight"]}
    if gpt.ngrams is not None:
        layers["pairs and triples"] = ["ngrams.table"]
    for i in range(gpt.shape.depth):
        layers[f"block {i + 1}"] = [name for name in names if name.startswith(f"blocks.{i}.")]
    return {**layers, "head": ["head.weight"]}


def _short(name: str) -> str:
    """attention.query of blocks.0.attention.query.weight"""
    return ".".join(name.split(".")[2:-1])


def _changes(gpt: GPT, watch: Watch) -> Step:
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
    return Step(
        "What the optimizer changes",
        "Each kind of weight has its own algorithm. Muon gives every direction of a block's matrices the same say, "
        "AdamW scales each number of the tables by how large its gradients have been, and of the pairs and triples "
        "only the rows that were looked up move.",
        [source_of(MuonAdamW._update), source_of(orthogonalize), source_of(step_rows)],
        [],
        [Table(("weights", "algorithm", "length", "change", "share"), rows)],
        resumed,
    )


def _members(names: dict[int, str], parameters: Sequence[nn.Parameter]) -> dict[str, list[nn.Parameter]]:
    """The parameters of a group; those of the blocks by what they do, over all blocks."""
    members: dict[str, list[nn.Parameter]] = {}
    for parameter in parameters:
        name = names[id(parameter)]
        members.setdefault(_short(name) if name.startswith("blocks.") else name.split(".")[0], []).append(parameter)
    return members


def _afterwards(model: Model, targets: Tensor, before: Tensor, after: Tensor) -> Step:
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
    return Step(
        "The loss afterwards",
        f"Reading the same once more, the mean is {new:.3f} instead of {old:.3f}: the model is {verdict}. A run does "
        "this thousands of times, on ever new text.",
        [source_of(LanguageModel.configure_optimizers)],
        [],
        [Table(("came", "before", "after"), rows)],
    )
