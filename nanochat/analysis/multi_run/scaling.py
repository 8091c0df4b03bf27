"""Runs of several sizes: the law that they follow, and what it says about the next size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, NullLocator

from nanochat.analysis.figure import Cell, Figure, FigureSpec, Table
from nanochat.analysis.history import History
from nanochat.analysis.scaling_law import ScalingLaw, fit
from nanochat.analysis.style import color, subplots, theme
from nanochat.analysis.units import power_of_ten, scientific
from nanochat.training.console import count

DRAWN = 60  # places at which the law is drawn


@dataclass(frozen=True)
class Measure:
    """What the size of a run is measured in."""

    name: str
    what: str
    label: str
    of: Callable[[History], float | None]
    said: Callable[[float], str]
    note: str


MEASURES = (
    Measure(
        "scaling_parameters",
        "the model's size",
        "parameters in matrix products",
        lambda history: history.matmul_parameters,
        lambda size: f"{count(size)} parameters",
        "Embeddings are not counted, as they do no work. The law holds for runs that were trained alike: "
        "where the larger ones have seen less text, as in the same time, it shows what size is worth in that time.",
    ),
    Measure(
        "scaling_compute",
        "compute",
        "compute (FLOPs)",
        lambda history: history.flops,
        lambda size: f"{scientific(size)} FLOPs",
        "Compute is the model's work for each token times the tokens it learned from. The law is that of the best "
        "possible runs only if each of these was of the best size for its compute.",
    ),
)


def scaling_figures(histories: Sequence[History]) -> list[FigureSpec]:
    """A fit against each measure of size, where the runs differ in it."""
    found = []
    for measure in MEASURES:
        points = [(x, h.bpb) for h in histories if h.bpb is not None and (x := measure.of(h)) and h.run.complete]
        if len({round(math.log(x), 2) for x, _ in points}) > 1:
            title = f"How bits per byte fall with {measure.what}"
            found.append(
                FigureSpec(measure.name, title, lambda m=measure, t=title: scaling_figure(histories, m, t), "Scaling")  # type: ignore[misc]
            )
    return found


def scaling_figure(histories: Sequence[History], measure: Measure, title: str) -> Figure:
    """The fit, its exponent with how sure that is, and the next size.

    Raises:
        ValueError: if the runs are too few, not comparable, or follow no law.
    """
    finished = [h for h in histories if h.run.complete and h.bpb is not None and measure.of(h)]
    texts = {h.run.summary.get("corpus_fingerprint") for h in finished}
    if len(texts) > 1:
        raise ValueError("the runs were scored on different texts, so that no law can hold for all of them")
    x = [float(measure.of(h) or 0) for h in finished]
    y = [float(h.bpb or 0) for h in finished]
    law = fit(x, y)
    sizes = sorted(set(x))
    following = sizes[-1] * sizes[-1] / sizes[-2] if sizes[-1] / sizes[-2] > 1.2 else 2 * sizes[-1]
    value, low, high = law.predict(following)
    exponent = law.exponent
    kind = "L = E + A x^-a" if law.has_floor else "L = A x^-a (three sizes are too few for a floor E)"
    rows: list[list[Cell]] = [
        ["law", kind, None, None],
        ["exponent a", *_cells(exponent)],
        ["factor A", law.factor, None, None],
        ["floor E (bits per byte)", law.floor if law.has_floor else None, None, None],
        ["runs around the law (bits per byte)", _cell(law.deviation), None, None],
        [f"next size: {measure.said(following)}, bits per byte", *_cells((value, low, high))],
    ]
    return Figure(
        name=measure.name,
        title=title,
        caption=f"{_in_words(law, following, measure.said(following))} {measure.note}",
        draw=lambda: _draw(law, x, y, following, measure.label),
        table=Table(["", "value", "95 % from", "95 % to"], rows),
        section="Scaling",
    )


def _cell(value: float) -> Cell:
    return None if not math.isfinite(value) else value


def _cells(values: Sequence[float]) -> list[Cell]:
    return [_cell(value) for value in values]


def _in_words(law: ScalingLaw, following: float, size: str) -> str:
    value, low, high = law.predict(following)
    a, least, most = law.exponent
    if math.isfinite(most):
        ends = f"{least:.2f} to {most:.2f}" if least > 0 else f"up to {most:.2f}"
    else:
        ends = f"at least {least:.2f}" if least > 0 else "anything"
    how = f"The exponent is {a:.3f} (95 % interval: {ends}), from {law.sizes} sizes"
    if not law.has_floor:
        how += ", which are too few to tell whether there is a floor"
    ahead = f"{value:.3f} bits per byte ({low:.3f} to {high:.3f})"
    return f"{how}. For the next size, {size}, the law expects {ahead}."


def _draw(law: ScalingLaw, x: Sequence[float], y: Sequence[float], following: float, label: str) -> MplFigure:
    fig, axes = subplots()
    places = np.geomspace(min(x) / 1.15, following * 1.12, DRAWN)
    values = law(places)
    value, low, high = law.predict(following)
    band = np.array([law.predict(place)[1:] for place in places])
    axes.fill_between(places, *band.T, color=color(0), alpha=0.14, linewidth=0, label="95 % for a run")
    inside = places <= max(x)
    axes.plot(places[inside], values[inside], color=color(0), label=f"L = {law.formula}")
    axes.plot(places[~inside], values[~inside], color=color(0), linestyle=(0, (4, 3)))
    axes.plot(x, y, "o", color=color(1), markersize=7, markeredgecolor=theme().background, label="runs", zorder=4)
    axes.plot([following] * 2, [low, high], color=color(2), linewidth=2)
    axes.plot([following], [value], "D", color=color(2), markersize=7, label="expected next", zorder=4)
    if law.floor > 0 and law.floor > min(y) - 1.5 * (max(y) - min(y)):
        axes.axhline(law.floor, color=theme().muted, linewidth=1, linestyle=":", label=f"floor {law.floor:.2f}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(_log_ticks(places[0], places[-1]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: _tick(number)))
    spread = max(y) - min(y)
    axes.set_ylim(min(*y, value) - 0.35 * spread, max(y) + 0.25 * spread)
    axes.set_xlabel(label)
    axes.set_ylabel("bits per byte")
    fig.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return fig


def _tick(number: float) -> str:
    if number < 1e9:
        return count(number)
    exponent = math.floor(math.log10(number) + 1e-9)
    lead = number / 10**exponent
    return f"{lead:.0f}·{power_of_ten(exponent)}" if round(lead) > 1 else power_of_ten(exponent)


def _log_ticks(low: float, high: float) -> object:
    """Ticks at 1, 2 and 5 times the powers of ten, or at these powers alone where there are many."""
    from matplotlib.ticker import LogLocator

    decades = math.log10(high / low)
    return LogLocator(subs=(1.0,) if decades > 4 else (1.0, 3.0) if decades > 2 else (1.0, 2.0, 5.0))
