"""The curves of a run, against steps, tokens, seconds and FLOPs; and what its model was."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nanochat.runs import Run

if TYPE_CHECKING:
    from nanochat.model import GPT

AXES = ("step", "tokens", "seconds", "flops")  # what a curve can be drawn against
X_COLUMNS = ("step", "tokens", "seconds")  # the columns of metrics.csv that are no curves


class Curve(NamedTuple):
    """Points, in ascending order of x."""

    x: np.ndarray
    y: np.ndarray


class History:
    """A run as its files tell of it, each read once.

    Args:
        run: whose.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """``metrics.csv``: NaN where a line has no value."""
        return {name: np.asarray(values, dtype=float) for name, values in self.run.metrics().items()}

    @property
    def names(self) -> list[str]:
        """Of all curves."""
        return [name for name in self.columns if name not in X_COLUMNS]

    def curve(self, name: str, axis: str = "step") -> Curve:
        """The logged values of a curve; no points if there is none of that name, or nothing to draw it against."""
        nothing = Curve(np.empty(0), np.empty(0))
        values = self.columns.get(name)
        x_values = self._x_values(axis)
        if values is None or x_values is None:
            return nothing
        kept = np.isfinite(values) & np.isfinite(x_values)
        order = np.argsort(x_values[kept], kind="stable")
        return Curve(x_values[kept][order], values[kept][order])

    def _x_values(self, axis: str) -> np.ndarray | None:
        if axis == "step" and "step" in self.columns:
            return self.columns["step"] + 1  # after the first step, one is done
        if axis != "flops":
            return self.columns.get(axis)
        tokens = self.columns.get("tokens")
        return tokens * self.flops_per_token if tokens is not None and self.flops_per_token else None

    @cached_property
    def gpt(self) -> GPT | None:
        """A model of the run's sizes, without weights (on the meta device); None if they are not known."""
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
        """What the configuration says, such as ``setting("model", "depth")``; None if nothing."""
        value: object = self.run.config
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    @property
    def row_length(self) -> int | None:
        """Tokens in a row to train on."""
        row, context = self.setting("data", "row_length"), self.setting("data", "context")
        known = [length for length in (row, context) if isinstance(length, int)]
        return min(known) if known else None

    @cached_property
    def flops_per_token(self) -> float | None:
        """Operations to train on one token. None in reinforcement learning, where most of the work is to answer."""
        known = self.run.summary.get("flops_per_token")
        if known or self.gpt is None or self.run.stage == "reinforce":
            return float(known) if known else None
        return float(self.gpt.flops_per_token(self.row_length))

    @cached_property
    def parameters(self) -> int | None:
        """All of them."""
        known = self.run.summary.get("parameters")
        return int(known) if known else self.gpt.num_parameters if self.gpt is not None else None

    @cached_property
    def matmul_parameters(self) -> int | None:
        """Those that take part in a matrix product for each token: all but the tables that are only looked up."""
        return self.gpt.num_matmul_parameters if self.gpt is not None else None

    @property
    def tokens(self) -> float | None:
        """That it has learned from, so far."""
        return self._last("tokens")

    @property
    def steps(self) -> int | None:
        """That it has taken, so far."""
        last = self._last("step")
        known = self.run.summary.get("steps")
        return int(known) if known is not None else int(last) + 1 if last is not None else None

    @property
    def flops(self) -> float | None:
        """That it has taken, so far."""
        return self.tokens * self.flops_per_token if self.tokens and self.flops_per_token else None

    @property
    def bpb(self) -> float | None:
        """Its final score on held-out text; the last on the way while it has none."""
        known = self.run.summary.get("val_bpb")
        if known is not None:
            return float(known)
        curve = self.curve("val/bpb")
        return float(curve.y[-1]) if len(curve.y) else None

    def _last(self, column: str) -> float | None:
        known = self.run.summary.get(column)
        if known is not None:
            return float(known)
        values = self.columns.get(column, np.empty(0))
        values = values[np.isfinite(values)]
        return float(values.max()) if len(values) else None
