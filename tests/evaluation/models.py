"""Models and bundles for the tests of CORE, some with a known score."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from nanochat.evaluation.bundle import CORE_TASKS
from nanochat.model import GPT, GPTConfig
from nanochat.tokenizer import Tokenizer

SHARED = Path(os.environ.get("NANOCHAT_SHARED") or Path(__file__).parents[3] / "shared")
CORE = SHARED / "data" / "core"
needs_core = pytest.mark.skipif(not (CORE / "core.yaml").is_file(), reason=f"there is no {CORE}")

Line = Mapping[str, Any]


def letters() -> Tokenizer:
    """A token for each byte: what a text's tokens are can be seen."""
    return Tokenizer([bytes([byte]) for byte in range(256)], 265)


def bigrams(likes: Mapping[str, str], strength: float = 8.0) -> GPT:
    """A model that looks one letter back: after each letter of ``likes`` it expects any of the letters given for it.

    Where nothing is given, all tokens are equally likely. The blocks do nothing, and each token has a direction of the
    stream of its own, by which the head knows it.
    """
    gpt = GPT(GPTConfig.from_options(depth=1, vocab_size=265, context=256, width=320))
    with torch.no_grad():
        gpt.wte.weight.copy_(torch.eye(265, 320))
        gpt.lm_head.weight.zero_()
        for letter, followers in likes.items():
            for follower in followers:
                gpt.lm_head.weight[ord(follower), ord(letter)] = (
                    strength / 320**0.5
                )  # the norm makes the 1 a root of 320
    return gpt.eval()


def random_model(
    seed: int,
    vocab_size: int = 265,
    context: int = 256,
    depth: int = 2,
    kv_heads: int | None = None,
) -> GPT:
    """A model all of whose weights are random: those that begin at zero would make every choice a tie."""
    torch.manual_seed(seed)
    gpt = GPT(GPTConfig.from_options(depth, vocab_size, context, width=128, kv_heads=kv_heads))
    with torch.no_grad():
        for parameter in gpt.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
        gpt.lm_head.weight.normal_(std=0.3)
    return gpt.eval()


def write_bundle(
    folder: Path,
    tasks: Mapping[str, tuple[str, Sequence[Line]]],
    shots: int = 0,
    baselines: Mapping[str, float] | None = None,
    level: str = "",
    delimiter: str | None = None,
) -> Path:
    """A bundle of tasks, each with its kind and its lines."""
    data = folder / level
    (data / "some").mkdir(parents=True, exist_ok=True)
    entries = []
    for name, (kind, lines) in tasks.items():
        (data / "some" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
        entry = {"label": name, "dataset_uri": f"some/{name}.jsonl", "num_fewshot": [shots], "icl_task_type": kind}
        entries.append(entry if delimiter is None else {**entry, "continuation_delimiter": delimiter})
    (folder / "core.yaml").write_text(json.dumps({"icl_tasks": entries}), encoding="utf-8")  # JSON is YAML
    with open(folder / "eval_meta_data.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Eval Task", "Task Category", "Random baseline", "Description"])
        for name in CORE_TASKS:
            writer.writerow([name, "any", (baselines or {}).get(name, 0), "a text, with a comma"])
    return folder


def choice(query: str, choices: Sequence[str], gold: int) -> Line:
    return {"query": query, "choices": list(choices), "gold": gold}


def schema(options: Sequence[str], continuation: str, gold: int) -> Line:
    return {"context_options": list(options), "continuation": continuation, "gold": gold}


def language(context: str, continuation: str) -> Line:
    return {"context": context, "continuation": continuation}
