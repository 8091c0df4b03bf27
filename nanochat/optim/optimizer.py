"""Muon for matrices and AdamW for the rest, as one optimizer that Lightning can treat as usual."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from nanochat.optim.muon import muon_step

MOMENTUM_START = 0.85  # early gradients point in changing directions: a shorter memory serves them better
MOMENTUM_STEPS = 300  # until the momentum has reached its final value (nanochat: 300)


class MuonAdamW(torch.optim.Optimizer):
    """One optimizer, each of its parameter groups with its own algorithm.

    Muon (Jordan 2024, kellerjordan.github.io/posts/muon) is made for the matrices inside the blocks. Embedding and
    head are tables of vectors, one for each token, and are served better by AdamW (arXiv 1711.05101).

    Args:
        groups: parameter groups, each with the keys ``params``, ``name``, ``algorithm`` ("muon" or "adamw"), ``lr``,
            and optionally any of the defaults below.
        momentum: of Muon; it warms up from 0.85 over the first 300 steps.
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: per unit of learning rate, decoupled from the gradient.
        muon_dtype: precision of Muon's matrix products; bfloat16 where the hardware is fast at it.

    Raises:
        ValueError: on an unknown algorithm, or a parameter in a Muon group that is not a matrix.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.8, 0.95),
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        muon_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.muon_dtype = muon_dtype
        super().__init__(groups, {"momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        for group in self.param_groups:
            if group.get("algorithm") not in ("muon", "adamw"):
                raise ValueError(f"unknown algorithm {group.get('algorithm')!r}: choose muon or adamw")
            if group["algorithm"] == "muon" and any(p.ndim != 2 for p in group["params"]):
                raise ValueError("Muon works on matrices only: put other parameters into an adamw group")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Changes each parameter that has a gradient; returns what ``closure`` returns, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                (self._muon if group["algorithm"] == "muon" else self._adamw)(group, parameters)
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for p in parameters:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["momentum"] = torch.zeros_like(p)
            state["step"] += 1
            by_shape[p.shape].append(p)
        warm = min(self.state[parameters[0]]["step"].item() / MOMENTUM_STEPS, 1.0)
        for same_shape in by_shape.values():
            muon_step(
                same_shape,
                [p.grad for p in same_shape if p.grad is not None],
                [self.state[p]["momentum"] for p in same_shape],
                lr=group["lr"],
                momentum=MOMENTUM_START + (group["momentum"] - MOMENTUM_START) * warm,
                weight_decay=group["weight_decay"],
                dtype=self.muon_dtype,
            )

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for p in parameters:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(p)
                state["exp_avg_sq"] = torch.zeros_like(p)
        states = [self.state[p] for p in parameters]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            foreach=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
