"""Finds the checkpoint of a model: by file, by folder, by the name of its run, or the newest."""

from __future__ import annotations

import shlex
import zipfile
from collections.abc import Iterable
from pathlib import Path

from nanochat.runs import CHECKPOINTS, RUNS
from nanochat.training.checkpoint.loading import BEST, CHAT, LAST, PREVIOUS, QUESTIONS

FINE_TUNED = ("{}-chat", "{}-reinforce")  # names of the runs that fine-tune the base model of a run
HOW_TO_TRAIN = (
    "train one with `{0} fit --config configs/tiny.yaml`, then fine-tune it with "
    "`{0} fit --config configs/tiny.yaml --config configs/chat.yaml`"
)
BASE_MODEL_NOTICE = (
    "This is a base model: it continues your text, but does not answer questions.\n"
    "Fine-tune it for chat with\n  {} fit --config {} --config configs/chat.yaml"
)


def find_model(name_or_path: str | Path | None = None, root: str | Path = ".", program: str = "python cli.py") -> Path:
    """The checkpoint of a model.

    Args:
        name_or_path: a checkpoint file; a run's folder; the name of a run, of which the newest fine-tuned one is taken
            ("tiny" also finds the runs that fine-tuned it), else the newest; None for runs of any name.
        root: the folder that contains lightning_logs.
        program: the command line's name, for the commands in error messages.

    Raises:
        ValueError: if there is none. The message is one line, with the command that helps.
    """
    runs = Path(root, RUNS)
    how_to_train = HOW_TO_TRAIN.format(program)
    if name_or_path is None:
        found = newest_checkpoint(runs.glob("*/version_*"))
        if found is None:
            raise ValueError(f"there is no model below {runs}: {how_to_train}")
        return found
    if not (name := str(name_or_path)):
        raise ValueError("the name of the model is empty: leave it out to take the newest")
    path = Path(name_or_path)
    if path.is_file():
        return path
    inside = [path.parent if path.name == CHECKPOINTS else path, *path.glob("version_*")] if path.is_dir() else []
    named = [run for one in (name, *(t.format(name) for t in FINE_TUNED)) for run in (runs / one).glob("version_*")]
    found = newest_checkpoint(inside) or newest_checkpoint(named)
    if found is not None:
        return found
    if inside:
        raise ValueError(
            f"there is no checkpoint in the folder {path}: give a run's folder, such as {RUNS}/tiny/version_0"
        )
    if path.suffix or len(path.parts) > 1:
        raise ValueError(f"there is no checkpoint {path}")
    names = sorted({run.parent.name for run in runs.glob("*/version_*") if last_checkpoint(run)})
    hint = f"the runs are {', '.join(names)}" if names else how_to_train
    raise ValueError(f"there is no run {name} below {runs}: {hint}")


def resolve_checkpoint(
    ckpt_path: str | None, name: str | None, root: str = ".", program: str = "python cli.py"
) -> Path:
    """The checkpoint that a command's options --ckpt_path and --name select; None is an option that is not given.

    Raises:
        ValueError: if there is none, or both options name a model.
    """
    if ckpt_path not in (None, LAST, BEST):
        if name is not None:
            raise ValueError(f"--ckpt_path={ckpt_path} and --name={name} both select a model: give one of them")
        return find_model(ckpt_path, root, program)
    path = find_model(name, root, program)
    if ckpt_path != BEST:
        return path
    best = path.with_stem(BEST)
    if not best.is_file():
        raise ValueError(f"there is no {best}: --ckpt_path={LAST} takes the last checkpoint")
    return best


def newest_checkpoint(runs: Iterable[Path]) -> Path | None:
    """The last checkpoint of the newest chat model among the runs, else of the newest model; None if there is none.

    At most the list of records of each checkpoint is read, from the newest on, until a chat model is found.
    """
    found = [path for run in runs if (path := last_checkpoint(run)) is not None]
    found.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return next((path for path in found if is_chat(path)), found[0] if found else None)


def last_checkpoint(run: Path) -> Path | None:
    """The last checkpoint in a run's folder, else the previous one; None if there is none."""
    paths = (run / CHECKPOINTS / f"{name}.ckpt" for name in (LAST, PREVIOUS))
    return next((path for path in paths if path.is_file()), None)


def is_chat(path: Path) -> bool:
    """Whether a checkpoint is a fine-tuned model's. Searches the bytes of its pickle for a key; unpickles nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            content = archive.read(name)
            return any(key.encode() in content for key in (CHAT, QUESTIONS))
    except (OSError, StopIteration, zipfile.BadZipFile):
        return False


def base_model_notice(name: str, path: Path, program: str) -> str:
    """The notice that a base model does not answer questions, with the command that fine-tunes it.

    Args:
        name: the name of its run.
        path: its checkpoint.
        program: the command line's name.
    """
    tier = Path("configs", f"{name}.yaml")
    if tier.is_file():
        return BASE_MODEL_NOTICE.format(program, tier)
    return BASE_MODEL_NOTICE.format(program, "configs/tiny.yaml") + f" --start_from={shlex.quote(str(path))}"
