"""Figures of the scaling law that runs of several sizes follow, with a prediction for the next size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from nanochat.analysis.figure import Cell, Figure, FigureSpec, Table
from nanochat.analysis.history import History
from nanochat.analysis.scaling_law import ScalingLaw, fit
from nanochat.analysis.style import color, subplots, theme
from nanochat.analysis.units import power_of_ten, scientific
from nanochat.training.console import count

CURVE_POINTS = 60  # at which the law is drawn


@dataclass(frozen=True)
class Measure:
    """A measure of the size of a run.

    Attributes:
        name: name of the figure.
        title: title of the figure.
        label: of the x-axis.
        size_of: the size of a run; None if not known.
        format: a size with its unit, for captions.
        note: last sentences of the caption.
    """

    name: str
    title: str
    label: str
    size_of: Callable[[History], float | None]
    format: Callable[[float], str]
    note: str


MEASURES = (
    Measure(
        "scaling_parameters",
        "Bits per byte against model size",
        "parameters in matrix products",
        lambda history: history.matmul_parameters,
        lambda size: f"{count(size)} parameters",
        "The embedding is not counted, as it is only looked up. The law describes runs with the same training: if the "
        "larger ones were trained on less text, for example in the same time, it describes that condition.",
    ),
    Measure(
        "scaling_compute",
        "Bits per byte against compute",
        "compute (FLOPs)",
        lambda history: history.flops,
        lambda size: f"{scientific(size)} FLOPs",
        "Compute is FLOPs per token times training tokens. The law is that of compute-optimal training only if each "
        "run had the optimal model size for its compute.",
    ),
)


def scaling_figures(histories: Sequence[History]) -> list[FigureSpec]:
    """A figure for each measure of size in which the finished runs differ."""
    found = []
    for measure in MEASURES:
        sizes = {round(math.log(measure.size_of(h) or 1), 2) for h in _scored(histories, measure)}
        if len(sizes) > 1:
            found.append(
                FigureSpec(measure.name, measure.title, partial(scaling_figure, histories, measure), "Scaling")
            )
    return found


def _scored(histories: Sequence[History], measure: Measure) -> list[History]:
    """The finished runs with a score and a known size."""
    return [h for h in histories if h.run.complete and h.bpb is not None and measure.size_of(h)]


def scaling_figure(histories: Sequence[History], measure: Measure) -> Figure:
    """The fitted law, its exponent with a confidence interval, and the prediction for the next size.

    Raises:
        ValueError: if the runs are too few, not comparable, or larger runs are not better.
    """
    runs = _scored(histories, measure)
    texts = {h.run.summary.get("corpus_fingerprint") for h in runs}
    if len(texts) > 1:
        raise ValueError("the runs were scored on different texts, so no law can be fitted to them")
    x = [float(measure.size_of(h) or 0) for h in runs]
    y = [float(h.bpb or 0) for h in runs]
    law = fit(x, y)
    sizes = sorted(set(x))
    next_size = sizes[-1] * sizes[-1] / sizes[-2] if sizes[-1] / sizes[-2] > 1.2 else 2 * sizes[-1]
    formula = "L = E + A x^-a" if law.has_floor else "L = A x^-a (three sizes are too few for a floor E)"
    rows: list[list[Cell]] = [
        ["law", formula, None, None],
        ["exponent a", *map(_cell, law.exponent)],
        ["factor A", law.factor, None, None],
        ["floor E (bits per byte)", law.floor if law.has_floor else None, None, None],
        ["residual standard deviation (bits per byte)", _cell(law.residual_std), None, None],
        [f"next size: {measure.format(next_size)}, bits per byte", *map(_cell, law.predict(next_size))],
    ]
    return Figure(
        name=measure.name,
        title=measure.title,
        caption=f"{_law_caption(law, next_size, measure.format(next_size))} {measure.note}",
        draw=lambda: _draw(law, x, y, next_size, measure.label),
        table=Table(["", "value", "95 % from", "95 % to"], rows),
        section="Scaling",
    )


def _cell(value: float) -> Cell:
    return value if math.isfinite(value) else None


def _law_caption(law: ScalingLaw, next_size: float, size_text: str) -> str:
    value, low, high = law.predict(next_size)
    exponent, least, most = law.exponent
    if math.isfinite(most):
        interval = f"{least:.2f} to {most:.2f}" if least > 0 else f"up to {most:.2f}"
    else:
        interval = f"at least {least:.2f}" if least > 0 else "unbounded"
    text = f"The exponent is {exponent:.3f} (95 % interval: {interval}), from {law.sizes} sizes"
    if not law.has_floor:
        text += ", which are too few to fit a floor"
    prediction = f"{value:.3f} bits per byte (95 % interval: {low:.3f} to {high:.3f})"
    return f"{text}. For the next size, {size_text}, the law predicts {prediction}."


def _draw(law: ScalingLaw, x: Sequence[float], y: Sequence[float], next_size: float, label: str) -> MplFigure:
    fig, axes = subplots()
    sizes = np.geomspace(min(x) / 1.15, next_size * 1.12, CURVE_POINTS)
    values = law(sizes)
    value, low, high = law.predict(next_size)
    band = np.array([law.predict(size)[1:] for size in sizes])
    axes.fill_between(sizes, *band.T, color=color(0), alpha=0.14, linewidth=0, label="95 % for a run")
    measured = sizes <= max(x)
    axes.plot(sizes[measured], values[measured], color=color(0), label=f"L = {law.formula}")
    axes.plot(sizes[~measured], values[~measured], color=color(0), linestyle=(0, (4, 3)))
    axes.plot(x, y, "o", color=color(1), markersize=7, markeredgecolor=theme().background, label="runs", zorder=4)
    axes.plot([next_size] * 2, [low, high], color=color(2), linewidth=2)
    axes.plot([next_size], [value], "D", color=color(2), markersize=7, label="prediction", zorder=4)
    spread = max(y) - min(y)
    if law.floor > 0 and law.floor > min(y) - 1.5 * spread:
        axes.axhline(law.floor, color=theme().muted, linewidth=1, linestyle=":", label=f"floor {law.floor:.2f}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(_log_ticks(sizes[0], sizes[-1]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: _tick_label(number)))
    axes.set_ylim(min(*y, value) - 0.35 * spread, max(y) + 0.25 * spread)
    axes.set_xlabel(label)
    axes.set_ylabel("bits per byte")
    fig.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return fig


def _tick_label(number: float) -> str:
    if number < 1e9:
        return count(number)
    exponent = math.floor(math.log10(number) + 1e-9)
    lead = number / 10**exponent
    return f"{lead:.0f}·{power_of_ten(exponent)}" if round(lead) > 1 else power_of_ten(exponent)


def _log_ticks(low: float, high: float) -> LogLocator:
    """Ticks at 1, 2 and 5 times each power of ten; at fewer of them if the axis spans many powers."""
    decades = math.log10(high / low)
    return LogLocator(subs=(1.0,) if decades > 4 else (1.0, 3.0) if decades > 2 else (1.0, 2.0, 5.0))
