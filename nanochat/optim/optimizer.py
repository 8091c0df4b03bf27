"""Muon for matrices and AdamW for embedding and head, as one torch.optim.Optimizer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim.adamw import adamw

from nanochat.optim.distributed import local, orthogonalize_replicated, orthogonalize_sharded, shard_group
from nanochat.optim.muon import apply_update, band_rows, nesterov, orthogonalize

MOMENTUM_START = 0.85  # early gradients change direction: a shorter average suits them better
MOMENTUM_STEPS = 300  # of the momentum's linear warm-up (nanochat: 300)


class MuonAdamW(torch.optim.Optimizer):
    """One optimizer whose parameter groups each name their algorithm, as Lightning trains with a single optimizer.

    Muon (Jordan 2024, kellerjordan.github.io/posts/muon) is for the matrices inside the blocks. Embedding and head are
    tables with a vector for each token, which AdamW (arXiv 1711.05101) trains better.

    Args:
        groups: parameter groups, each with the keys ``params``, ``name``, ``algorithm`` ("muon" or "adamw"),
            ``lr``, and optionally any of the defaults below.
        momentum: of Muon; it warms up from 0.85 over the first 300 steps.
        every: steps between two Muon updates; each uses the momentum over the gradients of all steps since the last.
            An update costs the same however small a step is, and AdamW may take small steps all the same.
        band: rows of a matrix that Muon orthogonalizes together, where that divides its rows; None for whole matrices.
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: decoupled, per unit of learning rate.
        muon_dtype: precision of Muon's large matrix products; bfloat16 where the hardware is fast at it.
        processes: the group whose processes hold the same parameters and gradients, and share Muon's work; None for a
            single process. Sharded parameters (DTensors) carry their own group.

    Raises:
        ValueError: on an unknown algorithm, or a parameter in a Muon group that is not a matrix.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        momentum: float = 0.95,
        every: int = 1,
        band: int | None = None,
        betas: tuple[float, float] = (0.8, 0.95),
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        muon_dtype: torch.dtype = torch.float32,
        processes: dist.ProcessGroup | None = None,
    ) -> None:
        self.muon_dtype = muon_dtype
        self.processes = processes
        defaults = dict(momentum=momentum, every=every, band=band, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(groups, defaults)
        for group in self.param_groups:
            if group.get("algorithm") not in ("muon", "adamw"):
                raise ValueError(f"unknown algorithm {group.get('algorithm')!r}: choose muon or adamw")
            if group["algorithm"] == "muon" and any(p.ndim != 2 for p in group["params"]):
                raise ValueError("Muon works on matrices only: put other parameters into an adamw group")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates each parameter that has a gradient; returns the result of ``closure``, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update()
        return loss

    def _update(self) -> None:
        algorithms = {"muon": self._muon, "adamw": self._adamw}
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                algorithms[group["algorithm"]](group, parameters)

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for p in parameters:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["momentum"] = torch.zeros_like(p)
            state["step"] += 1
            by_shape[p.shape].append(p)
        steps = self.state[parameters[0]]["step"].item()
        momentum = MOMENTUM_START + (group["momentum"] - MOMENTUM_START) * min(steps / MOMENTUM_STEPS, 1.0)
        if steps % group["every"]:
            gradients = [local(p.grad) for p in parameters if p.grad is not None]
            torch._foreach_lerp_([local(self.state[p]["momentum"]) for p in parameters], gradients, 1 - momentum)
            return
        # a generator: the memory of one shape is free before the next one is computed
        stacks = (
            nesterov(
                [local(p.grad) for p in same_shape if p.grad is not None],
                [local(self.state[p]["momentum"]) for p in same_shape],
                momentum,
            )
            for same_shape in by_shape.values()
        )
        updates = self._orthogonalized(stacks, by_shape, group["band"])
        for (shape, same_shape), update in zip(by_shape.items(), updates, strict=True):
            rows, columns = band_rows(shape[0], group["band"]), shape[1]
            apply_update([local(p) for p in same_shape], update, rows, columns, group["lr"], group["weight_decay"])

    def _orthogonalized(
        self, stacks: Iterable[Tensor], by_shape: dict[torch.Size, list[Tensor]], band: int | None
    ) -> Iterator[list[Tensor]]:
        """Muon's updates, stack by stack, computed by one process or by several."""
        sharded = shard_group(p for same_shape in by_shape.values() for p in same_shape)
        if sharded is not None and sharded.size() > 1:
            return orthogonalize_sharded(stacks, [shape[0] for shape in by_shape], self.muon_dtype, sharded, band)
        if sharded is None and self.processes is not None and self.processes.size() > 1:
            return orthogonalize_replicated(stacks, self.muon_dtype, self.processes, band)
        return (list(orthogonalize(matrices, band, self.muon_dtype).unbind()) for matrices in stacks)

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        fused = parameters[0].device.type in ("cpu", "cuda")  # one pass over memory: on an H200 1.4 ms instead of 3.3
        for p in parameters:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(p)
                state["exp_avg_sq"] = torch.zeros_like(p)
            if fused:  # the fused kernel wants the step count on the parameter's device; a checkpoint has it on the CPU
                state["step"] = state["step"].to(p.device, non_blocking=True)
        states = [self.state[p] for p in parameters]
        adamw(  # element by element, so it serves the rows of a sharded parameter as well
            [local(p) for p in parameters],
            [local(p.grad) for p in parameters if p.grad is not None],
            [local(s["exp_avg"]) for s in states],
            [local(s["exp_avg_sq"]) for s in states],
            [],
            [s["step"] for s in states],
            foreach=not fused,
            fused=fused,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
