"""Corpora on the hub, with a server on loopback. Each test runs a new process, as HF_* is read on import."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from nanochat.data.corpus.hub import KNOWN, Address, choose_split, parse_address
from nanochat.data.corpus.hub_files import HubFile
from tests.cli.tools import ROOT
from tests.conftest import sentences
from tests.data.corpus.hub_server import COMMIT, Hub, running_hub

CLIMBMIX = KNOWN["climbmix"].repository
FETCH = """
import sys
from nanochat.data.corpus.hub import list_corpus, parse_address
try:
    listing = list_corpus(parse_address(sys.argv[1]), *sys.argv[2:] or ["train"])
    print(*(file.name for file in listing.train), "|", *(file.name for file in listing.held_out))
    for file in listing.train:
        print(listing.shard(file).fetch()[0])
except ValueError as error:
    print("error:", error)
"""


def shard(seed: int, count: int = 100, column: str = "text") -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({column: sentences(count, seed)}), file)
    return file.getvalue()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as server:
        server.repositories[CLIMBMIX] = {f"shard_{n:05}.parquet": shard(n) for n in range(4)}
        yield server


def run(hub: Hub, folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **hub.environment(folder), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )


def fetch(hub: Hub, folder: Path, *arguments: str, **environment: str) -> list[str]:
    done = run(hub, folder, "-c", FETCH, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("behaviour", ["good", "slow", "cut once", "429 once", "503 once", "wrong size once"])
def test_downloads_are_complete(behaviour: str, hub: Hub, tmp_path: Path) -> None:
    hub.behaviour["shard_00001.parquet"] = behaviour
    names, *paths = fetch(hub, tmp_path, "climbmix")
    assert names == "shard_00000.parquet shard_00001.parquet shard_00002.parquet | shard_00003.parquet"
    for name, content in list(hub.repositories[CLIMBMIX].items())[:3]:
        (path,) = [Path(p) for p in paths if p.endswith(name)]
        assert path.read_bytes() == content
        assert str(tmp_path / "hf") in str(path)  # HF_HOME
    hub.requests.clear()
    assert fetch(hub, tmp_path, "climbmix") == [names, *paths]
    assert hub.requests == []  # cached


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("cut", "shard_00001.parquet of hf://karpathy/climbmix-400b-shuffle is not on this machine and cannot be"),
        ("wrong size", "shard_00001.parquet of hf://karpathy/climbmix-400b-shuffle arrived damaged twice"),
        ("wrong content", "arrived damaged twice: its size or checksum is not what the hub states"),
        ("404", "there is no shard_00001.parquet of hf://karpathy/climbmix-400b-shuffle"),
        ("401", "the hub refuses shard_00001.parquet of hf://karpathy/climbmix-400b-shuffle (401): set HF_TOKEN"),
    ],
)
def test_a_failed_download_raises_and_keeps_nothing(behaviour: str, said: str, hub: Hub, tmp_path: Path) -> None:
    hub.behaviour["shard_00001.parquet"] = behaviour
    lines = fetch(hub, tmp_path, "climbmix")
    assert said in lines[-1]
    snapshots = tmp_path / "hf" / "hub" / f"datasets--{CLIMBMIX.replace('/', '--')}" / "snapshots" / COMMIT
    assert not (snapshots / "shard_00001.parquet").exists()
    hub.behaviour.clear()
    path = Path(fetch(hub, tmp_path, "climbmix")[2])
    assert path == snapshots / "shard_00001.parquet"
    assert path.read_bytes() == hub.repositories[CLIMBMIX]["shard_00001.parquet"]


def test_a_killed_download_is_repeated(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[CLIMBMIX]["shard_00000.parquet"] = shard(0, count=20_000)
    hub.behaviour["shard_00000.parquet"] = "slow"
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, "climbmix"], env={**os.environ, **hub.environment(tmp_path)}, cwd=ROOT
    )
    deadline = time.monotonic() + 200
    while not hub.served["shard_00000.parquet"] and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.behaviour.clear()
    _, path, *_ = fetch(hub, tmp_path, "climbmix")
    assert Path(path).read_bytes() == hub.repositories[CLIMBMIX]["shard_00000.parquet"]


def test_a_truncated_cached_file_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    _, path, *_ = fetch(hub, tmp_path, "climbmix")
    whole = Path(path).read_bytes()
    Path(path).resolve().write_bytes(whole[:1000])
    assert Path(fetch(hub, tmp_path, "climbmix")[1]).read_bytes() == whole


def test_missing_repositories_and_splits(hub: Hub, tmp_path: Path) -> None:
    assert "there is no corpus hf://no/where, or it is private" in fetch(hub, tmp_path, "hf://no/where")[0]
    hub.repositories["some/pictures"] = {"a.png": b"", "README.md": b""}
    assert "hf://some/pictures has no .parquet, .jsonl, .txt files" in fetch(hub, tmp_path, "hf://some/pictures")[0]
    hub.repositories["some/text"] = {"train.jsonl": b"{}"}
    assert "has no split test: its files are train.jsonl" in fetch(hub, tmp_path, "hf://some/text", "test")[0]
    nowhere = "http://127.0.0.1:9"
    line = fetch(hub, tmp_path, "tinystories", HF_ENDPOINT=nowhere)[0]
    assert "corpus hf://roneneldan/TinyStories is not on this machine and cannot be fetched" in line
    line = fetch(hub, tmp_path, "tinystories", HF_HUB_OFFLINE="1")[0]
    assert "fetch it with `download` where there is one" in line


def test_the_splits_of_a_repository(hub: Hub, tmp_path: Path) -> None:
    story = shard(0)
    hub.repositories["roneneldan/TinyStories"] = {
        "README.md": b"",
        "TinyStories-train.txt": b"other format",
        "data/train-00000-of-00002-2d5a.parquet": story,
        "data/train-00001-of-00002-5e44.parquet": story,
        "data/validation-00000-of-00001-869c.parquet": story,
    }
    expected = (
        "data/train-00000-of-00002-2d5a.parquet data/train-00001-of-00002-5e44.parquet"
        " | data/validation-00000-of-00001-869c.parquet"
    )
    assert fetch(hub, tmp_path, "tinystories")[0] == expected
    hub.repositories["some/configured"] = {"a/x.parquet": story, "b/y.parquet": story, "b/z.parquet": story}
    hub.cards["some/configured"] = {
        "configs": [
            {"config_name": "other", "data_files": [{"split": "train", "path": "b/*"}]},
            {"config_name": "default", "data_files": [{"split": "train", "path": ["a/*", "b/y*"]}]},
        ]
    }
    assert fetch(hub, tmp_path, "hf://some/configured")[0] == "a/x.parquet b/y.parquet |"
    assert fetch(hub, tmp_path, "hf://some/configured/b")[0] == "b/y.parquet |"


def test_addresses() -> None:
    assert parse_address("climbmix") == KNOWN["climbmix"]
    assert parse_address("hf://a/b") == parse_address("hf://datasets/a/b/") == Address("a/b")
    assert parse_address("hf://a/b@v1/c/d") == Address("a/b", "v1", "c/d")
    assert parse_address("path/to/text") is None
    with pytest.raises(ValueError, match="hf://nothing is not an address on the hub"):
        parse_address("hf://nothing")


def test_files_without_a_split_name_are_train() -> None:
    files = [HubFile(name, None, None) for name in ("a.parquet", "b.parquet", "b_test.parquet", "my-valid.parquet")]
    assert [f.name for f in choose_split(files, "train", {})] == ["a.parquet", "b.parquet"]
    assert [f.name for f in choose_split(files, "validation", {})] == ["my-valid.parquet"]
