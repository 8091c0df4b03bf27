"""Training on a corpus of the hub, by the real commands against a server on loopback."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from nanochat.data.corpus.hub import KNOWN
from tests.cli.tools import command, metrics, tiny_options
from tests.conftest import sentences
from tests.data.corpus.hub_server import Hub, running_hub

CLIMBMIX = KNOWN["climbmix"].repository


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """Nine files of about 10 KB, of which the last one is held out."""
    with running_hub() as server:
        for number in range(9):
            file = io.BytesIO()
            pyarrow.parquet.write_table(pyarrow.table({"text": sentences(60, number)}), file)
            server.repositories.setdefault(CLIMBMIX, {})[f"shard_{number:05}.parquet"] = file.getvalue()
        yield server


def fit(hub: Hub, root: Path, *more: str) -> Path:
    done = command("fit", *tiny_options(Path("climbmix"), root), *more, **hub.environment(root))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return root / "lightning_logs" / "run" / "version_0"


@pytest.mark.slow
def test_a_run_on_streamed_text_goes_on_exactly(hub: Hub, tmp_path: Path) -> None:
    """Over the ends of several files, with other workers, and on a machine that has none of the earlier ones."""
    steps = ["--trainer.max_steps=80", "--data.validations=1", "--trainer.log_every_n_steps=4"]
    steps += ["--model.warmdown=0", *(f"--model.{group}_lr=0.02" for group in ("matrix", "embedding", "head"))]
    straight = fit(hub, tmp_path / "straight", *steps)
    fetched = {request.rsplit("/", 1)[1] for request in hub.downloads()}
    assert "shard_00005.parquet" in fetched  # that far it came
    hub.requests.clear()
    parts = fit(hub, tmp_path / "parts", *steps, "--trainer.max_steps=43")
    for path in (tmp_path / "parts" / "cache" / "tokens").glob("streamed-*"):
        path.rename(path.with_name("gone"))  # as on a machine that has only the checkpoint
    assert fit(hub, tmp_path / "parts", *steps, "--data.num_workers=2", "--ckpt_path=last") == parts
    assert metrics(parts, "val/bpb")[-1:] == metrics(straight, "val/bpb")
    assert metrics(parts, "train/loss") == metrics(straight, "train/loss")


def test_downloaded_corpus_needs_no_requests(hub: Hub, tmp_path: Path) -> None:
    hub.requests.clear()
    done = command("download", "--corpus=climbmix", "--shards=2", **hub.environment(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 files of climbmix" in done.stdout
    assert "--data.corpus=climbmix --data.max_shards=2" in done.stdout
    assert sorted(path.rsplit("/", 1)[1] for path in hub.downloads()) == [
        f"shard_{number:05}.parquet" for number in (0, 1, 8)
    ]
    hub.requests.clear()
    fit(hub, tmp_path, "--data.max_shards=2", "--trainer.max_steps=60")  # three times through the text
    assert hub.requests == []


def test_a_file_that_cannot_be_had_ends_the_run_in_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.behaviour["shard_00002.parquet"] = "404"
    try:
        options = [*tiny_options(Path("climbmix"), tmp_path), "--trainer.max_steps=200", "--data.validations=1"]
        done = command("fit", *options, **hub.environment(tmp_path))
    finally:
        hub.behaviour.clear()
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "nanochat: error: there is no shard_00002.parquet of hf://karpathy/climbmix-400b-shuffle"
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--corpus=embedded"], "embedded is not a corpus on the hub: use one of climbmix, fineweb-edu, tinystories"),
        (["--corpus=climbmix", "--shards=0"], "--shards must be at least 1, not 0"),
        (["--corpus=climbmix", "--shard=1"], "there is no option --shard, did you mean --shards?"),
        (["--corpus=hf://no/where"], "there is no corpus hf://no/where, or it is private and needs HF_TOKEN"),
    ],
)
def test_what_cannot_be_downloaded(options: list[str], said: str, hub: Hub, tmp_path: Path) -> None:
    done = command("download", *options, **hub.environment(tmp_path))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr
