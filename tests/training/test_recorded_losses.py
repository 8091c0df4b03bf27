"""Training gives the losses of version 0.1.0: the model, gradients, optimizer and order of the data are the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.tools import metrics, train
from tests.conftest import sentences

STEPS = 50
RECORDED = json.loads(Path(__file__).with_name("recorded_losses.json").read_text(encoding="utf-8"))


def run_losses(root: Path, seed: int, *more: str) -> list[float]:
    """``train/loss`` of each step of a two-layer model, in float32 and uncompiled."""
    corpus = root / "corpus.txt"
    corpus.write_text("\n\n".join(" ".join(sentences(8, seed=n)) for n in range(300)), encoding="utf-8")
    options = [
        *("--name=run", f"--trainer.default_root_dir={root}", f"--data.corpus={corpus}", "--data.vocab_size=300"),
        *("--data.context=128", "--data.row_length=64", "--data.batch_size=4", "--data.tokens_per_step=512"),
        *("--data.validations=1", "--data.val_tokens=500", "--model.depth=2", "--model.compile=false"),
        *("--trainer.precision=32-true", f"--trainer.max_steps={STEPS}", "--trainer.log_every_n_steps=1"),
        *(f"--seed_everything={seed}", "--trainer.accelerator=cpu", *more),
    ]
    return [loss for _, loss in metrics(train(options, root), "train/loss")]


@pytest.mark.parametrize("seed", [0, 1])
def test_losses_are_as_recorded(tmp_path: Path, seed: int) -> None:
    found = run_losses(tmp_path, seed)
    assert len(found) == STEPS
    # They are bitwise equal on the machine that recorded them; other kernels round differently.
    assert found == pytest.approx(RECORDED[str(seed)], rel=1e-4)
