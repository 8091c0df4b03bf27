"""The spectrum of the weight matrices: in how many directions each works, and what training has made of it."""

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
from nanochat.analysis.model.attention import evenly_spaced
from nanochat.analysis.model.loaded_model import LoadedModel
from nanochat.analysis.style import color, subplots, theme
from nanochat.analysis.units import thousands
from nanochat.model import GPT
from nanochat.runs import Run
from nanochat.training.checkpoint_files import data_state
from nanochat.training.ranks import KINDS, PREFIX, effective_ranks

SECTION = "Inside the model"
NAME, TITLE = "spectrum", "The spectrum of the weight matrices"
RANKS, RANKS_TITLE = "ranks", "In how many directions the weights work, over training"
LAYERS = 8  # that are looked at, at most
DASHED = (0, (5, 4))


def singular_values(matrix: Tensor) -> Tensor:
    """Of a matrix, the largest first: float64, as many as its shorter side has.

    They are the roots of the eigenvalues of the smaller of its two Gram matrices, which takes a fraction of the time
    of a decomposition; in float64, so that squaring costs no digit that is shown.
    """
    wide = matrix.double() if matrix.size(0) <= matrix.size(1) else matrix.double().T
    return torch.linalg.eigvalsh(wide @ wide.T).clamp(min=0).sqrt().flip(0)


def spectra(weights: Mapping[str, Tensor], layers: list[int]) -> dict[tuple[str, int], Tensor]:
    """The singular values of the blocks' matrices, by kind and layer."""
    return {
        (kind, layer): singular_values(weights[f"transformer.h.{layer}.{path}.weight"].cpu())
        for kind, path in KINDS.items()
        for layer in layers
    }


def initial_weights(loaded: LoadedModel) -> Mapping[str, Tensor] | None:
    """The weights that a run of pretraining began with, drawn once more from its seed; None where they are not known.

    A run draws its weights first of all after it is seeded, so the same seed gives them again, bit for bit.
    (tests/analysis/model/test_spectrum.py compares them with a run's that never moves.)
    """
    config, run = loaded.run.config, loaded.run
    seed = config.get("seed_everything")
    drawn = run.stage == "pretrain" and run.started_from is None and _begins_fresh(run)
    if not drawn or type(seed) is not int or data_state(loaded.checkpoint).get("seed") != seed:
        return None
    state = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        return GPT(loaded.gpt.config).state_dict()
    finally:
        torch.set_rng_state(state)


def _begins_fresh(run: Run) -> bool:
    """Whether it did not take its weights from a file that the user has named."""
    return run.config.get("ckpt_path") in (None, "last", "best", "auto")


def figure(loaded: LoadedModel) -> Figure:
    """Singular values of each kind of matrix, a line for each layer."""
    depth, began_with = loaded.gpt.config.n_layer, initial_weights(loaded)
    layers = evenly_spaced(depth, LAYERS)
    last = spectra(loaded.gpt.state_dict(), layers)
    start = spectra(began_with, layers[:1]) if began_with is not None else {}

    def draw() -> MplFigure:
        fig, grid = subplots(2, 3, width=9.2, height=5.4, sharex=True)
        for axes, kind in zip(grid.flat, KINDS, strict=True):
            for place, layer in enumerate(layers):
                shade = theme().sequential_map(0.35 + 0.6 * place / max(len(layers) - 1, 1))
                _line(axes, last[kind, layer], color=shade, linewidth=1.7, label=f"layer {layer + 1}")
            if start and bool(start[kind, 0].any()):
                _line(axes, start[kind, 0], linestyle="--", color=theme().muted, linewidth=1.3, label="at the start")
            axes.set_title(kind, fontsize=10.5)
            axes.set_ylim(bottom=0)
        for axes in grid[-1]:
            axes.set_xlabel("rank of the value (%)")
        for axes in grid[:, 0]:
            axes.set_ylabel("singular value")
        handles, names = grid.flat[0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5), fontsize=9)
        return fig

    caption = (
        "How strongly each matrix of a block stretches its input, direction by direction, the strongest at the left. A "
        "flat line uses all directions alike, as Muon's updates do; a steep one works in a few."
    )
    if start:
        caption += " Dashed: layer 1 before the first step; the output matrices were all 0 then."
    if len(layers) < depth:
        caption += f" Of {depth} layers, {len(layers)} evenly spread ones are shown."
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
    """The effective rank of each kind of matrix as the run has logged it, and what it began with if that is known.

    Raises:
        ValueError: if the run has logged none.
    """
    history, began_with = History(loaded.run), initial_weights(loaded)
    logged = {kind: history.curve(PREFIX + path) for kind, path in KINDS.items()}
    steps = next(iter(logged.values())).x
    if not len(steps):
        raise ValueError("the run has logged no ranks of its weights, which is done at each validation on the way")
    values = np.stack([curve.y for curve in logged.values()])  # (kinds, validations)
    if began_with is not None:
        start = [[float(rank)] for rank in effective_ranks(began_with).values()]
        steps, values = np.append(0, steps), np.hstack((start, values))
    width = loaded.gpt.config.n_embd

    def draw() -> MplFigure:
        fig, axes = subplots(width=8.0, height=4.2)
        for index, (kind, line) in enumerate(zip(KINDS, values, strict=True)):
            dashes = DASHED if kind == "key" else "-"  # it nearly covers that of the queries
            axes.plot(steps, line, "o", linestyle=dashes, color=color(index), markersize=5, label=kind)
        axes.set_xlabel("step")
        axes.set_ylabel("effective rank (directions)")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(thousands))
        fig.legend(loc="outside right center")
        return fig

    caption = (
        "Over how many directions the strength of a matrix is spread, the mean over the layers: at most "
        f"{width:,}, where it stretches all of them alike; a single strong one makes it small. It is the participation "
        "ratio of the singular values s: (sum of s²)² / sum of s⁴. Each point is a validation."
    )
    if began_with is not None:
        caption += " The first is what the run began with; output matrices begin at 0, which has no direction."
    cells: list[list[Cell]] = [
        [int(step), *(round(float(rank), 2) for rank in column)] for step, column in zip(steps, values.T, strict=True)
    ]
    return Figure(RANKS, RANKS_TITLE, caption, draw, Table(["step", *KINDS], cells), section=SECTION)
