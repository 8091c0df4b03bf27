"""Prints the results of a benchmark: a table, and one line of JSON with the machine, the versions and the command."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # so that `python benchmarks/race.py` finds the project even if it is not installed


def report(benchmark: str, rows: Sequence[dict[str, Any]]) -> None:
    """Prints the rows as a table, and as a line of JSON.

    Args:
        benchmark: name of the benchmark.
        rows: one for each measurement, all with the same keys, which are the columns.
    """
    print("\n" + table(rows))
    facts = {"benchmark": benchmark, "rows": list(rows), "machine": machine(), "versions": versions()}
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    print("\n" + json.dumps({**facts, "command": command, "date": time.strftime("%Y-%m-%d")}))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table with aligned columns."""
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 1) + ":" for w in widths) + "|", *lines[1:]])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine() -> dict[str, Any]:
    """The processor, its threads and capabilities, and the GPU if there is one."""
    import torch

    from nanochat.training.hardware import cpu_multiplies_bf16, processor_name

    facts: dict[str, Any] = {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16": cpu_multiplies_bf16(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def versions() -> dict[str, str]:
    """The versions of Python, torch and Lightning."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "lightning")}}
