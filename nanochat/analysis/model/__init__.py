"""Figures that load the model: its losses, its attention, its weights."""

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
    """A figure that is made for every model."""

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
    """The figures of a run's model.

    The model, the held-out text and its losses are loaded once, by the first figure that is built.

    Args:
        run: the run; without a checkpoint, each figure raises a ValueError when it is built.
        options: device and passage.
    """
    loaded = LoadedModel(run, options)
    return [
        FigureSpec(figure.name, figure.title, partial(figure.build, loaded), figure.section) for figure in MODEL_FIGURES
    ]
