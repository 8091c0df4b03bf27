"""``export`` and ``import``: exchange models with the transformers library."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from nanochat.cli.errors import UsageError, check_free, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import call
from nanochat.exchange import read_folder, write_folder
from nanochat.model import GPT
from nanochat.runs import RUNS, SUMMARY
from nanochat.training.checkpoint.find import find_checkpoint
from nanochat.training.checkpoint.loading import BEST, LAST
from nanochat.training.checkpoint.saved_model import read_model, write_model
from nanochat.training.console import count, say

CONFIG = """\
# Sizes of the model in {checkpoint}, imported from {folder}. To train it on your own text:
#   {program} fit --config {config} --ckpt_path={checkpoint} --data.corpus=path/to/your-text

name: {name}  # the run is stored in lightning_logs/<name>/version_N

model:
  depth: {depth}
  width: {width}
  heads: {heads}
  kv_heads: {kv_heads}

data:
  vocab_size: {vocab_size}
  context: {context}  # may be reduced: shorter sequences need less memory and time
"""


def export_model(
    ckpt_path: str,
    out: str,
    format: Literal["hf"] = "hf",
    name: str = "nanochat",
    root: str = ".",
    overwrite: bool = False,
) -> None:
    """Exports a checkpoint to a folder that other programs can load.

    Args:
        ckpt_path: The checkpoint: a file, or last or best of the newest run of this name.
        out: The folder to write.
        format: Format of the files: hf is safetensors and JSON for Hugging Face transformers, without custom code.
        name: Name of the run, for last and best.
        root: The folder that contains lightning_logs, for last and best.
        overwrite: Whether existing files of the same names may be replaced.
    """
    path = find_checkpoint(ckpt_path, Path(root, RUNS, name)) if ckpt_path in (LAST, BEST) else Path(ckpt_path)
    saved = read_model(path)
    target = Path(out)
    write_folder(target, saved.gpt, saved.weights, saved.tokenizer, _training_details(path, saved.step), overwrite)
    say(f"Exported {path} to {target}: {_sizes(saved.gpt)}")
    say("To load it:")
    say(f"  transformers.AutoModelForCausalLM.from_pretrained({str(target)!r})")
    say(f"  transformers.AutoTokenizer.from_pretrained({str(target)!r})")


def _training_details(path: Path, step: int) -> dict[str, str]:
    """Rows of the model card about the training: the steps, and tokens and val/bpb if the run's summary has them."""
    details = {"trained": f"{step:,} steps"} if step else {}
    try:
        summary = json.loads((path.parent.parent / SUMMARY).read_text(encoding="utf-8"))
        if path.stem == LAST and summary["steps"] == step:
            details["trained"] += f", {count(summary['tokens'])} tokens"
            details["val/bpb"] = f"{summary['val_bpb']:.4f} bits per byte of held-out text of the same kind"
    except (OSError, ValueError, KeyError, TypeError):
        pass  # interrupted runs and moved checkpoints have no summary
    return details


def import_model(folder: str, out: str, overwrite: bool = False) -> None:
    """Imports a nanochat model from the format of Hugging Face transformers into a checkpoint.

    It also writes a YAML file with the model's sizes, for ``--config``.

    Args:
        folder: Folder with config.json, model.safetensors and tokenizer.json. Pickles are never read.
        out: The checkpoint to write; its name must end in .ckpt.
        overwrite: Whether the checkpoint and its YAML file may be replaced.
    """
    target = Path(out)
    config = target.with_suffix(".yaml")
    if target.suffix != ".ckpt":
        raise UsageError(f"--out={out}: give a file whose name ends in .ckpt")
    for path in (target, config):
        check_free(path, "--out", overwrite)
    gpt, weights, tokenizer = read_folder(Path(folder))
    write_model(target, gpt, weights, tokenizer)
    paths = {"checkpoint": target, "config": config, "folder": folder}
    quoted = {key: shlex.quote(str(path)) for key, path in paths.items()}
    sizes = gpt.config.to_hyperparameters()
    text = CONFIG.format(program=program_name(), name=json.dumps(target.stem), **quoted, **sizes)
    config.write_text(text, encoding="utf-8")
    options = f"--config {quoted['config']} --ckpt_path={quoted['checkpoint']}"
    say(f"Imported {folder} into {target}: {_sizes(gpt)}")
    say(f"Its sizes are in {config}. To validate it or to continue training:")
    for command in ("validate", "fit"):
        say(f"  {program_name()} {command} {options} --data.corpus=path/to/your-text")


def _sizes(gpt: GPT) -> str:
    config = gpt.config
    return (
        f"{gpt.num_parameters:,} parameters, depth {config.n_layer}, width {config.n_embd}, "
        f"vocabulary {config.vocab_size:,}"
    )


OVERWRITE = "Replace existing files of the same names."
FUNCTIONS: dict[str, Callable[..., None]] = {"export": export_model, "import": import_model}


def run(arguments: Sequence[str]) -> int:
    """Runs ``export`` or ``import``; returns the exit status."""
    return report_errors(lambda: call(FUNCTIONS[arguments[0]], arguments, overwrite=OVERWRITE))
