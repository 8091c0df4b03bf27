"""Figures that need the model itself: what it finds easy, where it looks, what its weights are like."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from nanochat.analysis.figure import Figure, Options, Recipe
from nanochat.analysis.model import (
    attention,
    depth,
    easy_and_hard,
    embedding,
    passage,
    position,
    samples,
    spectrum,
)
from nanochat.analysis.model.subject import Subject
from nanochat.runs import Run


class Kind(NamedTuple):
    """A figure that there is for each model."""

    name: str
    title: str
    section: str
    make: Callable[[Subject], Figure]


KINDS = (
    Kind(position.NAME, position.TITLE, position.SECTION, position.figure),
    Kind(easy_and_hard.NAME, easy_and_hard.TITLE, easy_and_hard.SECTION, easy_and_hard.figure),
    Kind(passage.NAME, passage.TITLE, passage.SECTION, passage.figure),
    Kind(samples.NAME, samples.TITLE, samples.SECTION, samples.figure),
    Kind(depth.LENS, depth.LENS_TITLE, depth.SECTION, depth.lens),
    Kind(depth.DEPTH, depth.DEPTH_TITLE, depth.SECTION, depth.by_depth),
    Kind(attention.MAPS, attention.MAPS_TITLE, attention.SECTION, attention.maps),
    Kind(attention.HEADS, attention.HEADS_TITLE, attention.SECTION, attention.averages),
    Kind(embedding.NAME, embedding.TITLE, embedding.SECTION, embedding.figure),
    Kind(spectrum.NAME, spectrum.TITLE, spectrum.SECTION, spectrum.figure),
    Kind(spectrum.RANKS, spectrum.RANKS_TITLE, spectrum.SECTION, spectrum.ranks),
)


def model_figures(run: Run, options: Options) -> list[Recipe]:
    """The figures of a run's model, each still to be made; none of this may take long before :attr:`Recipe.make`.

    The model, the held-out text and its losses are read once, by the first figure that needs them.

    Args:
        run: what was trained; one without a checkpoint says so at each figure.
        options: what a user may choose.
    """
    subject = Subject(run, options)
    return [Recipe(kind.name, kind.title, partial(kind.make, subject), kind.section) for kind in KINDS]
