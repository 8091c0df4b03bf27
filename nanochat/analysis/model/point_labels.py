"""Names beside points in a picture, as many as there is room for: none is written over another."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from nanochat.analysis.style import MONOSPACE, theme


class LabelPlacer:
    """Keeps an account of where in a picture something is written already.

    Sizes are reckoned from the number of letters: to measure them exactly would need the picture to be drawn first.

    Args:
        picture: the picture.
        axes: in it; their scales are set, and all points are drawn.
        size: of the letters, in points.
    """

    def __init__(self, fig: MplFigure, axes: Axes, size: float = 8.5) -> None:
        self.axes, self.size = axes, size
        fig.canvas.draw()  # so that the axes know where they are
        self.scale = fig.dpi / 72  # pixels in a point
        self.taken: list[Bbox] = []

    def place(self, x: float, y: float, text: str, weight: str = "normal") -> bool:
        """Writes a name right of a point, or left of, above or below it; says whether there was room."""
        width, height = 0.62 * self.size * len(text), 1.1 * self.size  # points
        at_x, at_y = self.axes.transData.transform((x, y))
        gap = 4
        for dx, dy in ((gap, -height / 2), (-gap - width, -height / 2), (-width / 2, gap), (-width / 2, -gap - height)):
            left, bottom = at_x + dx * self.scale, at_y + dy * self.scale
            box = Bbox.from_bounds(left, bottom, width * self.scale, height * self.scale)
            inside = self.axes.bbox.contains(box.x0, box.y0) and self.axes.bbox.contains(box.x1, box.y1)
            if inside and not any(box.overlaps(other) for other in self.taken):
                self.taken.append(box)
                self.axes.annotate(
                    text,
                    (x, y),
                    xytext=(dx, dy),
                    textcoords="offset points",
                    fontsize=self.size,
                    fontfamily=MONOSPACE[0],
                    color=theme().text,
                    weight=weight,
                    va="bottom",
                    path_effects=[withStroke(linewidth=2, foreground=theme().background)],  # dots may lie below it
                )
                return True
        return False
