"""Peak memory of preparing and reading a corpus does not grow with its size."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.tools import ROOT
from tests.data.corpus.test_documents import write_parquet

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")]

# prepares a corpus, and reads a number of batches
READ = """
import resource, sys
if __name__ == "__main__":
    from nanochat.data.text_data import TextDataModule
    data = TextDataModule(sys.argv[1], vocab_size=512, context=512, batch_size=64, seed=1)
    data.prepare_data()
    data.setup("fit")
    loader = iter(data.train_dataloader())
    for _ in range(int(sys.argv[2])):
        next(loader)
    print(type(data.shards).__name__, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    data.teardown("fit")
"""


def peak(corpus: Path, batches: int, folder: Path) -> tuple[str, int]:
    """The class of the shards, and the peak memory in MB."""
    (folder / "read.py").write_text(READ)
    done = subprocess.run(
        [sys.executable, str(folder / "read.py"), str(corpus), str(batches)],
        env={**os.environ, "NANOCHAT_CACHE": str(folder / f"cache-{corpus.name}"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    kind, megabytes = done.stdout.split()[-2:]
    return kind, int(megabytes)


def text(rng: random.Random) -> str:
    return " ".join(rng.choices(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"], k=400))


@pytest.mark.timeout(1200)
def test_peak_memory_is_independent_of_corpus_size(tmp_path: Path) -> None:
    """For both ways to read a corpus: before training (up to 128 MB) and during training (above)."""
    rng = random.Random(0)
    texts = [text(rng) for _ in range(4_000)]  # 10 MB
    sizes = {}
    for name, files in (("small", 1), ("medium", 10), ("large", 60)):
        (tmp_path / name).mkdir()
        for number in range(files):
            rows = [f"{number} {t}" for t in texts]
            write_parquet(tmp_path / name / f"{number}.parquet", rows, compression="none", use_dictionary=False)
        sizes[name] = peak(tmp_path / name, 12 * files, tmp_path)  # about an epoch
    print(sizes)
    assert [kind for kind, _ in sizes.values()] == ["StoredShards", "StoredShards", "StreamedShards"]
    small, medium, large = (megabytes for _, megabytes in sizes.values())
    assert medium < small + 60
    assert large < small + 60
