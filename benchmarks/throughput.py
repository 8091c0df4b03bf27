"""Measures training: tokens per second, and the time of each part of a step.

    python benchmarks/throughput.py tiny medium --steps 40 --precision 32-true
    python benchmarks/throughput.py full --steps 10  # on a GPU; --options=--data.corpus=embedded without a network

trains each tier for some steps with ``fit``, compiled if its whole run would be, and times a matrix product of torch
before every step, outside of the step's time, so that both run under the same conditions. ``utilization`` is the
model's FLOP/s (6 for each parameter of a matrix product and token, and causal attention) divided by the median FLOP/s
of these products; on a GPU, by the vendor's peak (MFU), and the parts are timed with CUDA events. ``other`` is the part
of a step that is not forward, backward or optimizer: batches, hooks, logs, the progress bar.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from report import ROOT, report

SIZE = 1024  # rows and columns of the matrices of the product


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiers", nargs="*", default=["tiny", "medium"], help="names of files in configs/")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps to measure, after as many warm-up steps")
    parser.add_argument(
        "--precision", nargs="+", default=[""], help="--trainer.precision; chosen for the machine if omitted"
    )
    parser.add_argument(
        "--options",
        nargs="*",
        action="extend",
        default=[],
        help="more options of fit, such as --options=--data.corpus=...",
    )
    arguments = parser.parse_args()
    rows = [
        measure(tier, p, arguments.steps, arguments.options) for tier in arguments.tiers for p in arguments.precision
    ]
    report("throughput", rows)


class Clock:
    """Times functions; on a GPU with CUDA events, which do not wait for it.

    Args:
        cuda: whether to time a GPU.
    """

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda
        self.calls: dict[str, list[tuple[Any, Any]]] = defaultdict(list)  # start and end of each call
        self.running = False

    def now(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def around(self, owner: Any, method: str, name: str) -> None:
        """Wraps a method of a class or an object, so that its calls are timed."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = self.now()
            try:
                return inner(*args, **kwargs)
            finally:
                if self.running:
                    self.calls[name].append((started, self.now()))

        setattr(owner, method, timed)

    def seconds(self, name: str) -> float:
        """Total seconds of all calls of a function; on a GPU only after it has finished them."""
        return sum(a.elapsed_time(b) / 1000 if self.cuda else b - a for a, b in self.calls[name])


def measure(tier: str, precision: str, steps: int, options: list[str]) -> dict[str, Any]:
    """Trains, and times the second half of the steps."""
    import torch
    import yaml
    from lightning.pytorch import Callback, LightningModule, Trainer

    from nanochat.cli import main as command
    from nanochat.optim import MuonAdamW
    from nanochat.training import language_model
    from nanochat.training.compiling import should_compile
    from nanochat.training.hardware import matmul_dtype, peak_flops, peak_memory, synchronize

    result: dict[str, Any] = {}
    config = ROOT / "configs" / f"{tier}.yaml"
    minutes = yaml.safe_load(config.read_text()).get("plan", {}).get("minutes")
    compiles = should_compile("cuda" if torch.cuda.is_available() else "cpu", minutes)

    class Measure(Callback):
        products: list[float] = []  # FLOP/s of each matrix product
        product_seconds = 0.0

        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            device = trainer.strategy.root_device
            self.clock = clock = Clock(device.type == "cuda")
            if clock.cuda:
                torch.cuda.reset_peak_memory_stats(device)
            clock.around(pl_module, "training_step", "forward")
            clock.around(trainer.strategy, "backward", "backward")
            optimizer = trainer.optimizers[0]
            assert isinstance(optimizer, MuonAdamW)
            clock.around(optimizer, "_update", "optimizer")
            self.matrix = torch.ones(SIZE, SIZE, dtype=matmul_dtype(str(trainer.precision)))
            self.result = torch.empty_like(self.matrix)

        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
        ) -> None:
            if trainer.global_step < steps or batch_idx % trainer.accumulate_grad_batches:
                return
            if not self.clock.running:
                self.started, self.clock.running = self.now(trainer), True
            if trainer.strategy.root_device.type == "cpu":
                began = time.perf_counter()
                torch.mm(self.matrix, self.matrix, out=self.result)
                seconds = time.perf_counter() - began
                self.products.append(2 * SIZE**3 / seconds)
                self.product_seconds += seconds

        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if trainer.global_step == 2 * steps:  # the end of the last measured step
                self.ended, self.clock.running = self.now(trainer), False

        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seconds = self.ended - self.started - self.product_seconds
            data, gpt = trainer.datamodule, pl_module.gpt  # type: ignore[attr-defined]
            tokens = steps * data.tokens_per_step(trainer.world_size)
            device = trainer.strategy.root_device
            product = statistics.median(self.products) if self.products else peak_flops(device, self.matrix.dtype) or 0
            parts = {name: self.clock.seconds(name) / seconds for name in ("forward", "backward", "optimizer")}
            peak = torch.cuda.max_memory_allocated(device) if self.clock.cuda else peak_memory()
            flops = gpt.flops_per_token(data.row_length) * tokens / seconds
            result.update(
                {
                    "tier": tier,
                    "precision": str(trainer.precision),
                    "compiled": "yes" if gpt.compiled_block is not None else "no",
                    "tokens/step": tokens // steps,
                    "row": data.row_length,
                    "tokens/s": tokens / seconds,
                    "GFLOP/s": flops / 1e9,
                    "product GFLOP/s": product / 1e9,
                    "utilization": f"{flops / product:.1%}" if product else "",
                    **{name: f"{share:.1%}" for name, share in parts.items()},
                    "other": f"{1 - sum(parts.values()):.1%}",
                    "peak MB": round(peak / 1e6),
                }
            )

        @staticmethod
        def now(trainer: Trainer) -> float:
            synchronize(trainer.strategy.root_device)
            return time.perf_counter()

    setup = language_model.LanguageModel.configure_callbacks
    language_model.LanguageModel.configure_callbacks = lambda self: [Measure()]  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as root:
            status = command(
                [
                    *("fit", "--config", str(config), f"--trainer.default_root_dir={root}"),
                    *(f"--trainer.max_steps={2 * steps}", "--trainer.limit_val_batches=0", "--trainer.devices=1"),
                    "--trainer.enable_checkpointing=false",
                    f"--model.compile={str(compiles).lower()}",
                    *([f"--trainer.precision={precision}"] if precision else []),
                    *options,
                ]
            )
    finally:
        language_model.LanguageModel.configure_callbacks = setup  # type: ignore[method-assign]
    if status:
        raise SystemExit(status)
    return result


if __name__ == "__main__":
    main()
