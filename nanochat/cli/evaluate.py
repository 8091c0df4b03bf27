"""``evaluate``: scores a model on CORE or the chat tasks."""

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
    "Score HumanEval, which runs programs that the model wrote. These may do anything: they run in Linux namespaces "
    "without network, your files or your processes, and with limited time and memory; but no isolation is perfect, so "
    "this is off by default. Linux only."
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
    """Scores a model. Finished tasks are stored in the run's folder; repeat the command to continue after a stop.

    Args:
        tasks: What to score: core, chat, or names of single tasks, separated by commas.
        ckpt_path: The model: a checkpoint file, a run's folder, or last or best of the newest run.
        name: Name of the runs to choose the newest from; null chooses among all runs.
        bundle: The CORE tasks: a folder or zip file like the published one; null downloads that once.
        max_per_task: Maximum number of items of each task; null for all. 100 give a first impression.
        root: The folder that contains lightning_logs.
        device: Device of the model: cpu, cuda or mps; null uses an NVIDIA GPU if there is one, else the CPU.
        precision: Precision of the activations; null is bf16 on a GPU that supports it, else 32.
        batch_tokens: Tokens per batch; null chooses by the device. Fewer need less memory.
        data: Folder with the files of the chat tasks, as on the Hugging Face Hub: gsm8k/test.jsonl, mmlu/test.parquet,
            ...; null downloads them from there.
        samples: Programs to sample for each question of HumanEval; with 10, pass@10 is reported as well as pass@1.
        allow_code_execution: Score HumanEval, which runs programs that the model wrote.
    """
    from nanochat.evaluation.groups import GROUPS, EvaluationRequest, parse_tasks
    from nanochat.evaluation.groups import evaluate as evaluate_group
    from nanochat.serving.model import load
    from nanochat.training.console import duration, say

    selected = parse_tasks(tasks)
    path = find_checkpoint_file(ckpt_path, name, root, any(GROUPS[group].is_chat for group in selected))
    with distributed(device) as local_device:
        model = load(path, device=local_device)
        say(f"{path}: {model.gpt.num_parameters:,} parameters, context {model.context:,}, {_describe(local_device)}")
        options = {
            "bundle": bundle,
            "precision": precision,
            "batch_tokens": batch_tokens,
            "data": data,
            "samples": samples,
            "allow_code_execution": allow_code_execution,
        }
        for group, names in selected.items():
            request = EvaluationRequest(model.gpt, model.tokenizer, path, names, max_per_task, options, say)
            report = evaluate_group(group, request)
            say("\n" + report.text)
            say(f"Finished in {duration(report.results['seconds'])}; results in {report.results['written']}")


def find_checkpoint_file(ckpt_path: str, name: str | None, root: str, chat: bool) -> Path:
    """The checkpoint to evaluate.

    Args:
        ckpt_path: last, best, or anything that :func:`nanochat.serving.find.find_model` accepts.
        name: name of the runs to search; None for all.
        root: the folder that contains lightning_logs.
        chat: whether chat models are searched; otherwise last and best mean a base model, if there is one.
    """
    from nanochat.serving.find_model import is_chat, resolve_checkpoint
    from nanochat.training.checkpoint.find import find_checkpoint
    from nanochat.training.checkpoint.loading import BEST, LAST

    runs = Path(root, RUNS)
    if ckpt_path in (LAST, BEST) and not chat:
        if name is None:
            checkpoints = [*runs.glob(f"*/version_*/checkpoints/{ckpt_path}.ckpt")]
            checkpoints.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
            base = next((path for path in checkpoints if not is_chat(path)), None)
            if base is not None:
                return base
        elif (runs / name).is_dir():
            return find_checkpoint(ckpt_path, runs / name)
    return resolve_checkpoint(ckpt_path, name, root, program_name())


def _describe(device: torch.device | str) -> str:
    return f"on {device}" if str(device) != "cpu" else "on the CPU"


@contextmanager
def distributed(device: str | None) -> Iterator[str]:
    """Initialises the process group if torchrun started several processes, and yields this process's device."""
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
    rank_zero_only.rank = dist.get_rank()  # type: ignore[attr-defined]  # so that only rank 0 prints
    yield chosen


def run(arguments: Sequence[str]) -> int:
    """Runs ``evaluate``; returns the exit status."""
    status = report_errors(lambda: call(evaluate, arguments, allow_code_execution=ALLOW))
    if "torch" in sys.modules:
        exit_if_distributed(status)
    return status
