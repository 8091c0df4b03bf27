"""``evaluate``: how good a model is, in figures that others have measured theirs by."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nanochat.cli.errors import exit_if_distributed, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import call
from nanochat.runs import RUNS

if TYPE_CHECKING:
    import torch

ALLOW = (
    "Score HumanEval, which runs programs that the model wrote. Nobody knows what these do: they run without network, "
    "in namespaces of their own that show them no file and no process of yours, with little time and memory; but no "
    "isolation is perfect, and so it is off unless you say so. Linux only."
)


def evaluate(
    tasks: str = "core",
    ckpt_path: str = "last",
    name: str | None = None,
    bundle: str | None = None,
    max_per_task: int | None = None,
    root: str = ".",
    device: str | None = None,
    precision: Literal["32", "bf16"] | None = None,
    batch_tokens: int | None = None,
    data: str | None = None,
    samples: int = 1,
    allow_code_execution: bool = False,
) -> None:
    """Scores a model. What is finished is kept in the run's folder: the same command goes on where it was stopped.

    Args:
        tasks: What to score: core, chat, or the names of single tasks, with commas between them.
        ckpt_path: The model: a file, a run's folder, or last or best of the newest run.
        name: Of the runs to take the newest from; null takes the newest of all.
        bundle: The tasks of CORE: a folder or a zip file in the published form; null fetches the published one, once.
        max_per_task: How many items of each task at most; null takes all. 100 give a first impression.
        root: The folder that lightning_logs is in.
        device: Where the model runs: cpu, cuda or mps; null takes an NVIDIA GPU if there is one, else the CPU.
        precision: Of the model's activations; null is bf16 on a GPU that has it, else 32.
        batch_tokens: How many tokens go through the model at a time; null suits the device. Fewer take less memory.
        data: Where the files of the chat tasks are: a folder with one for each (gsm8k/test.jsonl, mmlu/test.parquet),
            in the hub's form; null takes them from the hub.
        samples: How many programs to draw for each question of HumanEval: with 10, pass@10 is given beside pass@1.
        allow_code_execution: Whether HumanEval is scored, which runs programs that the model wrote.
    """
    from nanochat.evaluation.groups import GROUPS, Asked, choose
    from nanochat.evaluation.groups import evaluate as score
    from nanochat.serving.model import load
    from nanochat.training.console import duration, say

    chosen = choose(tasks)
    path = find(ckpt_path, name, root, any(GROUPS[group].chat for group in chosen))
    with processes(device) as where:
        model = load(path, device=where)
        say(f"{path}: {model.gpt.num_parameters:,} parameters, context {model.context:,}, {_on(where)}")
        options = {
            "bundle": bundle,
            "precision": precision,
            "batch_tokens": batch_tokens,
            "data": data,
            "samples": samples,
            "allow_code_execution": allow_code_execution,
        }
        for group, names in chosen.items():
            asked = Asked(model.gpt, model.tokenizer, path, names, max_per_task, options, say)
            report = score(group, asked)
            say("\n" + report.text)
            if "seconds" in report.facts:
                say(f"In {duration(report.facts['seconds'])}; written to {report.facts['written']}")


def find(ckpt_path: str, name: str | None, root: str, chat: bool) -> Path:
    """The checkpoint that is meant.

    Args:
        ckpt_path: last, best, or what :func:`nanochat.serving.find_model.find_model` finds.
        name: of the runs.
        root: the folder that lightning_logs is in.
        chat: whether a fine-tuned model is wanted, where it is not said which.
    """
    from nanochat.serving.find_model import is_chat, resolve_checkpoint
    from nanochat.training.checkpoint.find import find_checkpoint
    from nanochat.training.checkpoint.loading import BEST, LAST

    runs = Path(root, RUNS)
    if ckpt_path in (LAST, BEST) and not chat:
        if name is None:
            found = [*runs.glob(f"*/version_*/checkpoints/{ckpt_path}.ckpt")]
            found.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
            base = next((path for path in found if not is_chat(path)), None)
            if base is not None:
                return base
        elif (runs / name).is_dir():
            return find_checkpoint(ckpt_path, runs / name)
    return resolve_checkpoint(ckpt_path, name, root, program_name())


def _on(device: torch.device | str) -> str:
    return f"on {device}" if str(device) != "cpu" else "on the CPU"


@contextmanager
def processes(device: str | None) -> Iterator[str]:
    """Joins the processes that torchrun started, if it did, and says where this one's model is to be."""
    import torch
    import torch.distributed as dist

    from nanochat.training.hardware import default_accelerator, usable_device

    chosen = device or default_accelerator()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield chosen
        return
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    on_gpu = chosen.startswith("cuda")
    if on_gpu:
        chosen = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(usable_device(chosen))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    rank_zero_only.rank = dist.get_rank()  # type: ignore[attr-defined]  # so that one speaks for all
    yield chosen


def run(arguments: Sequence[str]) -> int:
    """Runs ``evaluate``; returns the exit status."""
    status = report_errors(lambda: call(evaluate, arguments, allow_code_execution=ALLOW))
    if "torch" in sys.modules:
        exit_if_distributed(status)
    return status
