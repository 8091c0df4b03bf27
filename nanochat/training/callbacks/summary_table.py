"""The results of a run as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nanochat.training.console import count, duration, size, table

REPORTED_WAIT = 0.02  # the time spent waiting for data is shown above this fraction


def summary_table(facts: Mapping[str, Any], scored_all: bool) -> str:
    """The table "Done in ...".

    Args:
        facts: content of ``summary.json``.
        scored_all: whether "val_bpb" is the score on all held-out text; else it is that of the last validation.
    """
    rows = {}
    if facts["val_bpb"] is not None:
        rows["val/bpb"] = f"{facts['val_bpb']:.4f} {'on all held-out text' if scored_all else 'at the end'}"
        if facts["best_val_bpb"] is not None:
            # validations during training score a subset, which may be easier or harder than all of the text
            subset = " (on a subset)" if scored_all else ""
            rows["val/bpb"] += f", {facts['best_val_bpb']:.4f} best during training{subset}"
    rows |= {name: f"{accuracy:.0%} of answers right" for name, accuracy in facts.get("tasks", {}).items()}
    if facts["tokens_per_second"]:
        mfu = f", {facts['mfu']:.0%} of the machine's peak" if facts["mfu"] else ""
        rows["speed"] = f"{facts['tokens_per_second']:,.0f} tokens/s{mfu}"
    rows["trained on"] = f"{count(facts['tokens'])} tokens in {facts['steps']:,} steps"
    if (facts["data_wait"] or 0) >= REPORTED_WAIT:
        rows["waited"] = f"{facts['data_wait']:.0%} of the time for data (try more --data.num_workers)"
    rows["memory"] = f"{size(facts['peak_memory_bytes'])} at the peak"
    if "peak_gpu_memory_bytes" in facts:
        rows["memory"] += f", and {size(facts['peak_gpu_memory_bytes'])} of GPU memory"
    if facts["checkpoint"]:
        rows["checkpoint"] = facts["checkpoint"]
    return table(f"Done in {duration(facts['seconds'])}", rows)
