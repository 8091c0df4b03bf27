"""Figures that need the model itself: what it finds easy, where it looks, what its weights are like."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from nanochat.analysis.figure import Figure, FigureSpec, ModelOptions
from nanochat.analysis.model import (
    attention,
    embedding,
    logit_lens,
    loss_by_position,
    passage,
    spectrum,
    tokens_by_loss,
    training_samples,
)
from nanochat.analysis.model.loaded_model import LoadedModel
from nanochat.runs import Run


class ModelFigure(NamedTuple):
    """A figure that there is for each model."""

    name: str
    title: str
    section: str
    build: Callable[[LoadedModel], Figure]


MODEL_FIGURES = (
    ModelFigure(loss_by_position.NAME, loss_by_position.TITLE, loss_by_position.SECTION, loss_by_position.figure),
    ModelFigure(tokens_by_loss.NAME, tokens_by_loss.TITLE, tokens_by_loss.SECTION, tokens_by_loss.figure),
    ModelFigure(passage.NAME, passage.TITLE, passage.SECTION, passage.figure),
    ModelFigure(training_samples.NAME, training_samples.TITLE, training_samples.SECTION, training_samples.figure),
    ModelFigure(logit_lens.LENS, logit_lens.LENS_TITLE, logit_lens.SECTION, logit_lens.logit_lens),
    ModelFigure(logit_lens.DEPTH, logit_lens.DEPTH_TITLE, logit_lens.SECTION, logit_lens.loss_by_depth),
    ModelFigure(attention.MAPS, attention.MAPS_TITLE, attention.SECTION, attention.attention_maps),
    ModelFigure(attention.HEADS, attention.HEADS_TITLE, attention.SECTION, attention.attention_heads),
    ModelFigure(embedding.NAME, embedding.TITLE, embedding.SECTION, embedding.figure),
    ModelFigure(spectrum.NAME, spectrum.TITLE, spectrum.SECTION, spectrum.figure),
    ModelFigure(spectrum.RANKS, spectrum.RANKS_TITLE, spectrum.SECTION, spectrum.ranks),
)


def model_figures(run: Run, options: ModelOptions) -> list[FigureSpec]:
    """The figures of a run's model, each still to be made; none of this may take long before :attr:`Recipe.make`.

    The model, the held-out text and its losses are read once, by the first figure that needs them.

    Args:
        run: what was trained; one without a checkpoint says so at each figure.
        options: what a user may choose.
    """
    loaded = LoadedModel(run, options)
    return [FigureSpec(kind.name, kind.title, partial(kind.build, loaded), kind.section) for kind in MODEL_FIGURES]
