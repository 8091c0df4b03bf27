"""Figures of the weight matrices: their singular values, and their effective ranks during training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from nanochat.analysis.figure import Cell, Figure, Table
from nanochat.analysis.history import History
from nanochat.analysis.model.loaded_model import LoadedModel
from nanochat.analysis.style import color, evenly_spaced, subplots, theme
from nanochat.analysis.units import thousands
from nanochat.model import GPT
from nanochat.runs import Run
from nanochat.training.callbacks.weight_rank import KINDS, PREFIX, effective_ranks
from nanochat.training.checkpoint.loading import data_state

SECTION = "Inside the model"
NAME, TITLE = "spectrum", "Singular values of the weight matrices"
RANKS, RANKS_TITLE = "ranks", "Effective rank of the weight matrices"
MAX_LAYERS = 8  # layers that are shown
DASHED = (0, (5, 4))


def singular_values(matrix: Tensor) -> Tensor:
    """The singular values of a matrix, largest first: (min(rows, columns),), float64.

    They are the square roots of the eigenvalues of the smaller Gram matrix, which takes a fraction of the time of a
    singular value decomposition. Float64 compensates for the digits that squaring loses.
    """
    wide = matrix.double() if matrix.size(0) <= matrix.size(1) else matrix.double().T
    return torch.linalg.eigvalsh(wide @ wide.T).clamp(min=0).sqrt().flip(0)


def spectra(weights: Mapping[str, Tensor], layers: list[int]) -> dict[tuple[str, int], Tensor]:
    """The singular values of the blocks' matrices, by (kind, layer)."""
    return {
        (kind, layer): singular_values(weights[f"transformer.h.{layer}.{path}.weight"].cpu())
        for kind, path in KINDS.items()
        for layer in layers
    }


def initial_weights(loaded: LoadedModel) -> Mapping[str, Tensor] | None:
    """The initial weights of a pretraining run, drawn again from its seed; None if they are not known.

    A run initialises its weights directly after seeding, so the same seed gives the same weights, bit for bit.
    (tests/analysis/model/test_spectrum.py compares them with the weights of a run with learning rates of 0.)
    """
    config, run = loaded.run.config, loaded.run
    seed = config.get("seed_everything")
    random_start = run.stage == "pretrain" and run.started_from is None and _no_named_checkpoint(run)
    if not random_start or type(seed) is not int or data_state(loaded.checkpoint).get("seed") != seed:
        return None
    state = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        return GPT(loaded.gpt.config).state_dict()
    finally:
        torch.set_rng_state(state)


def _no_named_checkpoint(run: Run) -> bool:
    """Whether the run did not load its weights from a file that the user named."""
    return run.config.get("ckpt_path") in (None, "last", "best", "auto")


def figure(loaded: LoadedModel) -> Figure:
    """Singular values of each kind of matrix, one line per layer."""
    depth, initial = loaded.gpt.config.n_layer, initial_weights(loaded)
    layers = evenly_spaced(depth, MAX_LAYERS)
    last = spectra(loaded.gpt.state_dict(), layers)
    start = spectra(initial, layers[:1]) if initial is not None else {}

    def draw() -> MplFigure:
        fig, grid = subplots(2, 3, width=9.2, height=5.4, sharex=True)
        for axes, kind in zip(grid.flat, KINDS, strict=True):
            for index, layer in enumerate(layers):
                shade = theme().sequential_map(0.35 + 0.6 * index / max(len(layers) - 1, 1))
                _line(axes, last[kind, layer], color=shade, linewidth=1.7, label=f"layer {layer + 1}")
            if start and bool(start[kind, 0].any()):
                _line(
                    axes,
                    start[kind, 0],
                    linestyle="--",
                    color=theme().muted,
                    linewidth=1.3,
                    label="layer 1, before training",
                )
            axes.set_title(kind, fontsize=10.5)
            axes.set_ylim(bottom=0)
        for axes in grid[-1]:
            axes.set_xlabel("index of the singular value (%)")
        for axes in grid[:, 0]:
            axes.set_ylabel("singular value")
        handles, names = grid.flat[0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5), fontsize=9)
        return fig

    caption = (
        "The singular values of each matrix, largest first. A flat line means that the matrix uses all directions "
        "equally, as Muon's updates do; a steep line means that a few directions dominate."
    )
    if start:
        caption += " Dashed: layer 1 before training; the output matrices (output, and MLP, out) are initialised to 0."
    if len(layers) < depth:
        caption += f" {len(layers)} of {depth} layers are shown, evenly spaced."
    return Figure(NAME, TITLE, caption, draw, _table(last), section=SECTION)


def _line(axes: Axes, values: Tensor, **style: Any) -> None:
    axes.plot(np.linspace(0, 100, len(values)), values.numpy(), **style)


def _table(found: dict[tuple[str, int], Tensor]) -> Table:
    cells: list[list[Cell]] = []
    for (kind, layer), values in found.items():
        sizes = (values[0], values[len(values) // 2], values[-1])
        cells.append([kind, layer + 1, *(round(float(value), 3) for value in sizes)])
    return Table(["matrix", "layer", "largest", "median", "smallest"], cells)


def ranks(loaded: LoadedModel) -> Figure:
    """The effective rank of each kind of matrix, as logged by the run, with the initial value if that is known.

    Raises:
        ValueError: if no ranks were logged.
    """
    history, initial = History(loaded.run), initial_weights(loaded)
    logged = {kind: history.curve(PREFIX + path) for kind, path in KINDS.items()}
    steps = next(iter(logged.values())).x
    if not len(steps):
        raise ValueError(
            "no ranks of the weights have been logged yet: this happens at each validation during training"
        )
    values = np.stack([curve.y for curve in logged.values()])  # (kinds, validations)
    if initial is not None:
        start = [[float(rank)] for rank in effective_ranks(initial).values()]
        steps, values = np.append(0, steps), np.hstack((start, values))
    width = loaded.gpt.config.n_embd

    def draw() -> MplFigure:
        fig, axes = subplots(width=8.0, height=4.2)
        for index, (kind, line) in enumerate(zip(KINDS, values, strict=True)):
            dashes = DASHED if kind == "key" else "-"  # the curves of keys and queries nearly coincide
            axes.plot(steps, line, "o", linestyle=dashes, color=color(index), markersize=5, label=kind)
        axes.set_xlabel("step")
        axes.set_ylabel("effective rank")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(thousands))
        fig.legend(loc="outside right center")
        return fig

    caption = (
        "The effective number of directions that a matrix uses: the participation ratio of its singular values s, "
        f"(sum of s²)² / sum of s⁴, averaged over the layers. It is {width:,} if all singular values are equal, and 1 "
        "if only one is not 0. Each point is a validation."
    )
    if initial is not None:
        caption += " The first point is the initialisation; output matrices start at 0, and have rank 0 there."
    cells: list[list[Cell]] = [
        [int(step), *(round(float(rank), 2) for rank in column)] for step, column in zip(steps, values.T, strict=True)
    ]
    return Figure(RANKS, RANKS_TITLE, caption, draw, Table(["step", *KINDS], cells), section=SECTION)
