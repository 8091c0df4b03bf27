"""Writes the figures as TensorBoard events, in a folder next to the run's own curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nanochat.analysis.figure import Table
from nanochat.analysis.figure_files import SavedFigure, as_markdown

TAG = "analysis"
MAX_ROWS = 60  # rows of each table


def log_figures(saved: Sequence[SavedFigure], folder: Path, step: int) -> None:
    """Writes images, captions and tables as events.

    The folder is separate from the run's, so TensorBoard shows it as a run of its own and the training curves are not
    changed. Events of an earlier analysis in it are deleted first.

    Args:
        saved: the figures.
        folder: for the events.
        step: the step that they are logged at.
    """
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        for saved_figure in saved:
            figure = saved_figure.figure
            if "png" in saved_figure.files:
                with Image.open(saved_figure.files["png"]) as image:
                    writer.add_image(f"{TAG}/{figure.name}", np.asarray(image.convert("RGB")), step, dataformats="HWC")
            text = f"**{figure.title}**\n\n{figure.caption}\n"
            if figure.table is not None:
                text += "\n" + as_markdown(Table(figure.table.columns, figure.table.rows[:MAX_ROWS]))
            writer.add_text(f"{TAG}/{figure.name}", text, step)
