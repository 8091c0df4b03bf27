"""Tasks from the hub by name, with a server on loopback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from tests.cli.tools import ROOT
from tests.data.corpus.hub_server import Hub, running_hub

SHOW = """
import json, sys
from nanochat.data.conversations.task_sources import open_tasks
try:
    for task in open_tasks(sys.argv[1:]):
        items = [task.item(0, index) for index in range(3)]
        print(task.name, task.scored, task.held_out_count, task.held_out(0).answer, json.dumps(items[0].messages))
        if task.scored:
            assert task.check(task.held_out(0), task.held_out(0).answer)
except ValueError as error:
    print("error:", error)
"""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=2)
    return file.getvalue()


def talk(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}], "source": "x"}


def choose(answer: int) -> dict[str, Any]:
    return {"question": "Which?", "subject": "s", "choices": ["a", "b"], "answer": answer}


def science(key: str) -> dict[str, Any]:
    return {"id": "1", "question": "Which?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": key}


def fill(hub: Hub) -> None:
    gsm = {"question": "One and one?", "answer": "It is <<1+1=2>>2.\n#### 2"}
    hub.repositories |= {
        "HuggingFaceTB/smol-smoltalk": {
            "data/train-00000-of-00002.parquet": parquet([talk("1"), talk("2"), talk("3")]),
            "data/train-00001-of-00002.parquet": parquet([talk("4")]),
            "data/test-00000-of-00001.parquet": parquet([talk("5"), talk("6")]),
        },
        "cais/mmlu": {
            "all/test-00000-of-00001.parquet": parquet([choose(0)]),
            "all/auxiliary_train-00000-of-00001.parquet": parquet([choose(1)]),
            "abstract_algebra/test-00000-of-00001.parquet": parquet([choose(1)]),
            "auxiliary_train/train-00000-of-00001.parquet": parquet([{"train": choose(1)}]),
        },
        "allenai/ai2_arc": {
            f"{name}/{split}-00000-of-00001.parquet": parquet([science(key)] * rows)
            for name, rows in (("ARC-Easy", 1), ("ARC-Challenge", 2))
            for split, key in (("train", "A"), ("test", "B"), ("validation", "A"))
        },
        "openai/gsm8k": {f"main/{split}-00000-of-00001.parquet": parquet([gsm] * 2) for split in ("train", "test")},
    }


def run(hub: Hub, folder: Path, *names: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", SHOW, *names],
        env={**os.environ, **hub.environment(folder), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_tasks_by_name(tmp_path: Path) -> None:
    names = ("smoltalk", "mmlu", "arc-easy", "arc-challenge", "gsm8k")
    with running_hub() as hub:
        fill(hub)
        first = run(hub, tmp_path, *names)
        lines = [line.split(" ", 4) for line in first.splitlines()]
        assert [line[:4] for line in lines] == [
            ["smoltalk", "False", "2", ""],
            ["mmlu", "True", "1", "A"],
            ["arc-easy", "True", "1", "B"],
            ["arc-challenge", "True", "2", "B"],
            ["gsm8k", "True", "2", "2"],
        ]
        assert '"content": "B"' in lines[1][4]  # the training split, auxiliary_train
        assert '{"type": "python", "text": "1+1"}' in lines[4][4]
        requests = len(hub.requests)
        assert run(hub, tmp_path, *names) == first
        assert len(hub.requests) == requests  # cached


def test_without_a_network(tmp_path: Path) -> None:
    with running_hub() as hub:
        message = run(hub, tmp_path, "gsm8k", HF_HUB_OFFLINE="1")
    assert message.startswith("error: ")
    assert "openai/gsm8k" in message
    assert message.count("\n") == 1


def test_missing_columns_raise(tmp_path: Path) -> None:
    with running_hub() as hub:
        fill(hub)
        hub.repositories["openai/gsm8k"]["main/train-00000-of-00001.parquet"] = parquet([{"question": "x"}])
        message = run(hub, tmp_path, "gsm8k")
    assert "has no column answer" in message
