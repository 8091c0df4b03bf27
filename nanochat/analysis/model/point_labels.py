"""Labels next to points, without overlaps."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from nanochat.analysis.style import MONOSPACE, theme

CHARACTER_WIDTH, LINE_HEIGHT = 0.62, 1.1  # of the monospace font, relative to its size
GAP = 4  # points between a label and its point


class LabelPlacer:
    """Places labels one by one, and tracks the areas that are taken.

    Widths are estimated from the number of characters, because exact ones require rendering the figure first.

    Args:
        fig: the figure.
        axes: its axes, with all points drawn and their scales set.
        size: font size in points.
    """

    def __init__(self, fig: MplFigure, axes: Axes, size: float = 8.5) -> None:
        self.axes, self.size = axes, size
        fig.canvas.draw()  # lays out the axes, so that their positions are known
        self.pixels_per_point = fig.dpi / 72
        self.taken: list[Bbox] = []

    def place(self, x: float, y: float, text: str) -> bool:
        """Writes a label to the right of a point, or else to its left, above or below it.

        Returns:
            Whether there was room.
        """
        width, height = CHARACTER_WIDTH * self.size * len(text), LINE_HEIGHT * self.size  # points
        point_x, point_y = self.axes.transData.transform((x, y))
        scale = self.pixels_per_point
        right, left = (GAP, -height / 2), (-GAP - width, -height / 2)
        above, below = (-width / 2, GAP), (-width / 2, -GAP - height)
        for dx, dy in (right, left, above, below):
            box = Bbox.from_bounds(point_x + dx * scale, point_y + dy * scale, width * scale, height * scale)
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
                    va="bottom",
                    path_effects=[withStroke(linewidth=2, foreground=theme().background)],  # legible on top of dots
                )
                return True
        return False
