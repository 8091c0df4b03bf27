"""The logged curves of a run, against steps, tokens, seconds and FLOPs, and the sizes of its model."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nanochat.runs import Run

if TYPE_CHECKING:
    from nanochat.model import GPT

X_AXES = ("step", "tokens", "seconds", "flops")  # the x-axes that a curve can be plotted against
X_COLUMNS = ("step", "tokens", "seconds")  # the columns of metrics.csv that are not curves


class Curve(NamedTuple):
    """The points of a curve: x, ascending, and y; both (points,)."""

    x: np.ndarray
    y: np.ndarray


class History:
    """The curves, totals and model sizes of a run. Each file is read once, on first use.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """``metrics.csv``: (lines,) per column, with NaN for empty cells."""
        return {name: np.asarray(values, dtype=float) for name, values in self.run.metrics().items()}

    @property
    def names(self) -> list[str]:
        """The names of all logged curves."""
        return [name for name in self.columns if name not in X_COLUMNS]

    def curve(self, name: str, axis: str = "step") -> Curve:
        """The logged values of a curve; empty if it was not logged, or if the x-axis is not known.

        Args:
            name: the column in metrics.csv.
            axis: one of :data:`X_AXES`.
        """
        y = self.columns.get(name)
        x = self._x_values(axis)
        if y is None or x is None:
            return Curve(np.empty(0), np.empty(0))
        kept = np.isfinite(y) & np.isfinite(x)
        order = np.argsort(x[kept], kind="stable")
        return Curve(x[kept][order], y[kept][order])

    def _x_values(self, axis: str) -> np.ndarray | None:
        if axis == "step" and "step" in self.columns:
            return self.columns["step"] + 1  # logged from 0; plotted as the number of completed steps
        if axis != "flops":
            return self.columns.get(axis)
        tokens = self.columns.get("tokens")
        return tokens * self.flops_per_token if tokens is not None and self.flops_per_token else None

    @cached_property
    def gpt(self) -> GPT | None:
        """A model of the run's shape on the meta device, without weights; None if the shape is not known."""
        import torch

        from nanochat.model import GPT, GPTConfig

        model, data = self.run.config.get("model"), self.run.config.get("data")
        if not isinstance(model, dict) or not isinstance(data, dict):
            return None
        try:
            with torch.device("meta"):
                return GPT(GPTConfig.from_hyperparameters({**data, **model}))
        except (KeyError, TypeError, ValueError, RuntimeError):
            return None

    def setting(self, *names: str) -> object:
        """A value of the configuration, such as ``setting("model", "depth")``; None if it is not set."""
        value: object = self.run.config
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    @property
    def row_length(self) -> int | None:
        """Tokens per training row."""
        row, context = self.setting("data", "row_length"), self.setting("data", "context")
        known = [length for length in (row, context) if isinstance(length, int)]
        return min(known) if known else None

    @cached_property
    def flops_per_token(self) -> float | None:
        """Training FLOPs per token. None in reinforcement learning, where generating answers takes most of the work."""
        logged = self.run.summary.get("flops_per_token")
        if logged or self.gpt is None or self.run.stage == "reinforce":
            return float(logged) if logged else None
        return float(self.gpt.flops_per_token(self.row_length))

    @cached_property
    def parameters(self) -> int | None:
        """Number of parameters."""
        logged = self.run.summary.get("parameters")
        return int(logged) if logged else self.gpt.num_parameters if self.gpt is not None else None

    @cached_property
    def matmul_parameters(self) -> int | None:
        """Number of parameters in matrix products: all but the embedding, which is only looked up."""
        return self.gpt.num_matmul_parameters if self.gpt is not None else None

    @property
    def tokens(self) -> float | None:
        """Training tokens so far."""
        return self._last("tokens")

    @property
    def steps(self) -> int | None:
        """Completed steps so far."""
        last = self._last("step")
        logged = self.run.summary.get("steps")
        return int(logged) if logged is not None else int(last) + 1 if last is not None else None

    @property
    def flops(self) -> float | None:
        """Training FLOPs so far."""
        return self.tokens * self.flops_per_token if self.tokens and self.flops_per_token else None

    @property
    def bpb(self) -> float | None:
        """The final bits per byte on held-out text, or else those of the last validation."""
        final = self.run.summary.get("val_bpb")
        if final is not None:
            return float(final)
        curve = self.curve("val/bpb")
        return float(curve.y[-1]) if len(curve.y) else None

    def _last(self, column: str) -> float | None:
        logged = self.run.summary.get(column)
        if logged is not None:
            return float(logged)
        values = self.columns.get(column, np.empty(0))
        values = values[np.isfinite(values)]
        return float(values.max()) if len(values) else None
