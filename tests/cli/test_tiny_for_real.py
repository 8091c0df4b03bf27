"""The tiny tier as a user runs it, three of its five minutes: so among the slow tests."""

import json
import time
from pathlib import Path

import pytest
import torch

from tests.cli.tools import command, metrics

pytestmark = pytest.mark.slow
GIGABYTE = 10**9


@pytest.mark.timeout(1200)
def test_tiny_trains_within_the_users_minimum_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an empty cache and four gigabytes of address space; the score falls."""
    resource = pytest.importorskip("resource")  # not on Windows
    if torch.version.cuda is None:  # a build for CUDA reserves more than that before it does anything
        monkeypatch.setattr("tests.cli.tools.PREPARE", lambda: resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)))
    started = time.monotonic()
    result = command(
        *("fit", "--config", "configs/tiny.yaml", f"--trainer.default_root_dir={tmp_path}", "--plan.minutes=3"),
        timeout=1100,
        NANOCHAT_CACHE=str(tmp_path / "cache"),
    )
    print(result.stdout, result.stderr, f"{time.monotonic() - started:.0f} s in all", sep="\n")
    assert (result.returncode, result.stderr) == (0, "")
    run = tmp_path / "lightning_logs" / "tiny" / "version_0"
    scores = [score for _, score in metrics(run, "val/bpb")]
    assert len(scores) >= 2  # four, where a machine is not too slow for them
    assert scores[-1] < scores[0]  # on the way another part of the text may be left out of the counts: a hundredth
    assert scores[-1] < 2.6  # untrained: 4.4
    summary = json.loads((run / "summary.json").read_text())
    # the compiler's memory included as far as it is in this process; 949 MB where this was written
    assert summary["peak_memory_bytes"] < GIGABYTE
    assert abs(summary["val_bpb"] - scores[-1]) < 0.2
