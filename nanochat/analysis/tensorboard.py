"""The figures in TensorBoard, beside the curves of the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nanochat.analysis.figure import Table
from nanochat.analysis.figure_files import SavedFigure, as_markdown

TAG = "analysis"
MOST_ROWS = 60  # of a table


def log_figures(saved: Sequence[SavedFigure], folder: Path, step: int) -> None:
    """Writes figures, readings and tables as events.

    They lie in a folder of their own, which TensorBoard shows as a run beside the run: its curves stay as they are,
    and what an earlier analysis wrote there is replaced, not shown twice.

    Args:
        written: the figures.
        folder: for the events alone.
        step: at which they are shown.
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
                text += "\n" + as_markdown(Table(figure.table.columns, figure.table.rows[:MOST_ROWS]))
            writer.add_text(f"{TAG}/{figure.name}", text, step)
