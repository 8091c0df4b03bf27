"""Figures that need the model itself: what it finds easy, where it looks, what its weights are like."""

from __future__ import annotations

from nanochat.analysis.figure import Options, Recipe
from nanochat.runs import Run


def model_figures(run: Run, options: Options) -> list[Recipe]:
    """The figures of a run's model, each still to be made; none of this may take long before :attr:`Recipe.make`."""
    return []
