"""The spectrum of the weight matrices: in how many directions each works, and what training has made of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from matplotlib.figure import Figure as Picture
from torch import Tensor

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.model.attention import spread
from nanochat.analysis.model.subject import Subject
from nanochat.analysis.style import canvas, color, theme
from nanochat.model import GPT
from nanochat.runs import Run
from nanochat.training.checkpoint_files import data_state
from nanochat.training.model_files import read_model

SECTION = "Inside the model"
NAME, TITLE = "spectrum", "The spectrum of the weight matrices"
RANKS, RANKS_TITLE = "ranks", "In how many directions the weights work, over training"
KINDS = {  # of matrices in a block, by their names in the model
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "output": "attention.output",
    "MLP, in": "mlp.expand",
    "MLP, out": "mlp.contract",
}
LAYERS = 8  # that are looked at, at most


def singular_values(matrix: Tensor) -> Tensor:
    """Of a matrix, the largest first: float64, as many as its shorter side has.

    They are the roots of the eigenvalues of the smaller of its two Gram matrices, which takes a fraction of the time
    of a decomposition; in float64, so that squaring costs no digit that is shown.
    """
    wide = matrix.double() if matrix.size(0) <= matrix.size(1) else matrix.double().T
    return torch.linalg.eigvalsh(wide @ wide.T).clamp(min=0).sqrt().flip(0)


def stable_rank(values: Tensor) -> float:
    """``sum(s^2) / max(s)^2`` (Rudelson and Vershynin, J. ACM 54, 2007); 0 for a matrix of zeros.

    Args:
        values: the singular values.
    """
    largest = values.max()
    return float((values.square().sum() / largest.square()) if largest > 0 else 0.0)


def effective_rank(values: Tensor) -> float:
    """``exp`` of the entropy of the values' shares (Roy and Vetterli, EUSIPCO 2007); 0 for a matrix of zeros."""
    total = values.sum()
    if total <= 0:
        return 0.0
    shares = values / total
    return float(torch.exp(-torch.special.xlogy(shares, shares).sum()))


class Moment(NamedTuple):
    """The matrices at a moment of training.

    Attributes:
        name: "last", "best", ...; "start" for what training began with.
        step: how many steps had been taken.
        values: singular values by kind of matrix and layer.
    """

    name: str
    step: int
    values: dict[tuple[str, int], Tensor]


def spectra(weights: Mapping[str, Tensor], layers: list[int]) -> dict[tuple[str, int], Tensor]:
    """The singular values of the blocks' matrices, by kind and layer."""
    return {
        (kind, layer): singular_values(weights[f"blocks.{layer}.{path}.weight"])
        for kind, path in KINDS.items()
        for layer in layers
    }


@lru_cache(maxsize=1)  # two figures need them
def moments(subject: Subject) -> list[Moment]:
    """Where the run has left its weights, in the order of steps; its start first, if that can be had exactly."""
    layers = spread(subject.gpt.shape.depth, LAYERS)
    found: dict[int, Moment] = {}
    for name, path in subject.run.checkpoints.items():
        try:
            saved = read_model(path)
        except ValueError:
            continue  # a damaged one is said elsewhere
        if saved.step not in found or name == "last":
            found[saved.step] = Moment(name, saved.step, spectra(saved.weights, layers))
    start = initial_weights(subject)
    if start is not None and 0 not in found:
        found[0] = Moment("start", 0, spectra(start, layers))
    return [found[step] for step in sorted(found)]


def initial_weights(subject: Subject) -> Mapping[str, Tensor] | None:
    """The weights that a run of pretraining began with, drawn once more from its seed; None where they are not known.

    A run draws its weights first of all after it is seeded, so the same seed gives them again, bit for bit.
    (tests/analysis/model/test_spectrum.py compares them with a run's that never moves.)
    """
    config, run = subject.run.config, subject.run
    seed = config.get("seed_everything")
    drawn = run.stage == "pretrain" and run.started_from is None and _begins_fresh(run)
    if not drawn or type(seed) is not int or data_state(subject.checkpoint).get("seed") != seed:
        return None
    state = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        return GPT(**subject.gpt.sizes).state_dict()
    finally:
        torch.set_rng_state(state)


def _begins_fresh(run: Run) -> bool:
    """Whether it did not take its weights from a file that the user has named."""
    return run.config.get("ckpt_path") in (None, "last", "best", "auto")


def figure(subject: Subject) -> Figure:
    """Singular values of each kind of matrix, a line for each layer."""
    found = moments(subject)
    last = next((moment for moment in reversed(found) if moment.name == "last"), found[-1])
    start = found[0] if found[0].name == "start" else None
    layers = sorted({layer for _, layer in last.values})

    def draw() -> Picture:
        picture, grid = canvas(2, 3, width=9.2, height=5.4, sharex=True)
        for axes, kind in zip(grid.flat, KINDS, strict=True):
            for place, layer in enumerate(layers):
                values = last.values[kind, layer]
                at = torch.linspace(0, 100, len(values))
                shade = theme().from_nothing(0.35 + 0.6 * place / max(len(layers) - 1, 1))
                axes.plot(at, values, color=shade, linewidth=1.7, label=f"layer {layer + 1}")
            if start is not None and bool(start.values[kind, layers[0]].any()):
                values = start.values[kind, layers[0]]
                at = torch.linspace(0, 100, len(values))
                axes.plot(at, values, "--", color=theme().muted, linewidth=1.3, label="at the start")
            axes.set_title(kind, fontsize=10.5)
            axes.set_ylim(bottom=0)
        for axes in grid[-1]:
            axes.set_xlabel("rank of the value (%)")
        for axes in grid[:, 0]:
            axes.set_ylabel("singular value")
        handles, names = grid.flat[0].get_legend_handles_labels()
        picture.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5), fontsize=9)
        return picture

    began = " Those of the output matrices were all 0 then." if start is not None else ""
    reading = (
        "How strongly each matrix of a block stretches its input, direction by direction, the strongest at the left. A "
        "flat line uses all directions alike, as Muon's updates do; a steep one works in a few. "
        + (f"Dashed: layer {layers[0] + 1} before the first step.{began} " if start is not None else "")
        + f"After {last.step:,} steps."
        + _few(subject, layers)
    )
    return Figure(NAME, TITLE, reading, draw, _table(found), section=SECTION)


def _few(subject: Subject, layers: list[int]) -> str:
    depth = subject.gpt.shape.depth
    return "" if len(layers) == depth else f" Of {depth} layers, {len(layers)} evenly spread ones are shown."


def _table(found: list[Moment]) -> Table:
    columns = ["weights", "step", "matrix", "layer", "largest", "median", "smallest", "stable rank", "effective rank"]
    cells: list[list[Cell]] = []
    for moment in found:
        for (kind, layer), values in moment.values.items():
            sizes = (values[0], values[len(values) // 2], values[-1])
            ranks = (stable_rank(values), effective_rank(values))
            numbers = [round(float(value), 3) for value in sizes] + [round(rank, 1) for rank in ranks]
            cells.append([moment.name, moment.step, kind, layer + 1, *numbers])
    return Table(columns, cells)


def ranks(subject: Subject) -> Figure:
    """Stable rank at each moment that is known: a line for each kind of matrix, its mean over the layers."""
    found = moments(subject)
    if len(found) < 2:
        raise ValueError("the run has kept its weights at one step only")
    if found[-1].step - found[0].step < found[-1].step / 10:
        raise ValueError("the run has kept its weights near its end only, and what it began with is not known")
    layers = sorted({layer for _, layer in found[0].values})

    def draw() -> Picture:
        picture, (left, right) = canvas(1, 2, width=9.2, height=3.9, width_ratios=(1, 1.15))
        names = list(KINDS)
        for index, kind in enumerate(names):
            for axes, rank in ((left, stable_rank), (right, effective_rank)):
                means = [sum(rank(m.values[kind, layer]) for layer in layers) / len(layers) for m in found]
                axes.plot([m.step for m in found], means, "o-", color=color(index), markersize=4, label=kind)
        left.set_title("stable rank", fontsize=10.5)
        right.set_title("effective rank", fontsize=10.5)
        left.set_ylabel("directions, mean over layers")
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        handles, labels = right.get_legend_handles_labels()
        picture.legend(handles, labels, loc="outside right center")
        return picture

    steps = ", ".join(f"{moment.step:,} ({moment.name})" for moment in found)
    reading = (
        "Two counts of the directions in which a matrix works. Stable rank compares all of its strength with that of "
        "its strongest direction, so one strong direction makes it small; effective rank counts the weak ones as well. "
        f"The weights are known at these steps: {steps}; the lines between only connect them. A run keeps its last "
        "weights, the best, and those before."
        + (
            " Output matrices begin at 0, which has no directions."
            if found[0].name == "start"
            else " What it began with is not known exactly."
        )
        + _few(subject, layers)
    )
    return Figure(RANKS, RANKS_TITLE, reading, draw, section=SECTION)
