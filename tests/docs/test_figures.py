"""docs/analysis.md describes every figure that analyze makes, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from nanochat.analysis.figure import ModelOptions
from nanochat.analysis.history import History
from nanochat.analysis.multi_run.comparison_figures import comparison_figures
from nanochat.analysis.multi_run.seed_groups import seed_groups
from nanochat.analysis.single_run.run_figures import run_figures
from nanochat.runs import read_run
from tests.analysis.run_folders import write_run

PAGE = Path(__file__).parents[2] / "docs" / "analysis.md"


def test_every_figure_is_described(tmp_path: Path) -> None:
    on_gpu = {"device": "NVIDIA H100", "tokens_per_second": 9000.0}
    folders = [
        write_run(tmp_path, version=depth, model__depth=depth, summary={"flops_per_token": 1000 * depth})
        for depth in (1, 2, 3)
    ]
    folders.append(write_run(tmp_path, version=4, model__depth=3, summary=on_gpu))
    histories = [History(read_run(folder)) for folder in folders]
    found = [
        *run_figures(histories[0], ModelOptions(), quick=False),
        *comparison_figures(histories, seed_groups(histories)),
    ]
    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    described = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(described) == sorted(spec.name for spec in found)
