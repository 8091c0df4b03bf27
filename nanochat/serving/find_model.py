"""Which checkpoint is meant: a file, a run, a name, or the newest there is."""

from __future__ import annotations

import shlex
import zipfile
from collections.abc import Iterable
from pathlib import Path

from nanochat.runs import CHECKPOINTS, RUNS
from nanochat.training.checkpoint.loading import BEST, CHAT, LAST, PREVIOUS, QUESTIONS

TUNED = ("{}-chat", "{}-reinforce")  # the names of the runs that make an assistant of those of a name
TRAIN = (
    "train one with `{0} fit --config configs/tiny.yaml`, then make an assistant of it with "
    "`{0} fit --config configs/tiny.yaml --config configs/chat.yaml`"
)
ONLY_COMPLETES = (
    "This is a base model: it goes on with what you write, but answers no question.\n"
    "An assistant is made of it by\n  {} fit --config {} --config configs/chat.yaml"
)


def find_model(what: str | Path | None = None, root: str | Path = ".", program: str = "python cli.py") -> Path:
    """The checkpoint of a model to talk to.

    Args:
        what: a checkpoint file; the folder of a run; the name of runs, of which the newest fine-tuned one is taken
            ("tiny" finds what fine-tuning has made of tiny), or the newest if there is none; None for all names.
        root: the folder that lightning_logs is in.
        program: how the user calls the command line, for what an error proposes.

    Raises:
        ValueError: if there is none, in one line that says what to do.
    """
    runs = Path(root, RUNS)
    how = TRAIN.format(program)
    if what is None:
        found = newest_checkpoint(runs.glob("*/version_*"))
        if found is None:
            raise ValueError(f"there is no model below {runs}: {how}")
        return found
    if not (name := str(what)):
        raise ValueError("the name of the model is empty: leave it out to take the newest")
    path = Path(what)
    if path.is_file():
        return path
    inside = [path.parent if path.name == CHECKPOINTS else path, *path.glob("version_*")] if path.is_dir() else []
    named = [run for one in (name, *(t.format(name) for t in TUNED)) for run in (runs / one).glob("version_*")]
    found = newest_checkpoint(inside) or newest_checkpoint(named)
    if found is not None:
        return found
    if inside:
        raise ValueError(f"there is no checkpoint in the folder {path}: give that of a run ({RUNS}/tiny/version_0)")
    if path.suffix or len(path.parts) > 1:
        raise ValueError(f"there is no checkpoint {path}")
    names = sorted({run.parent.name for run in runs.glob("*/version_*") if last_checkpoint(run)})
    raise ValueError(f"there is no run {name} below {runs}: " + (f"there is {', '.join(names)}" if names else how))


def resolve_checkpoint(
    ckpt_path: str | None, name: str | None, root: str = ".", program: str = "python cli.py"
) -> Path:
    """The checkpoint that --ckpt_path and --name ask for; the arguments of a command, left out where they are None.

    Raises:
        ValueError: if there is none, or two are meant.
    """
    if ckpt_path not in (None, LAST, BEST):
        if name is not None:
            raise ValueError(f"--ckpt_path={ckpt_path} and --name={name} both say which model: give one of them")
        return find_model(ckpt_path, root, program)
    path = find_model(name, root, program)
    if ckpt_path != BEST:
        return path
    best = path.with_stem(BEST)
    if not best.is_file():
        raise ValueError(f"there is no {best}: --ckpt_path={LAST} takes the last one")
    return best


def newest_checkpoint(runs: Iterable[Path]) -> Path | None:
    """Of the runs' last checkpoints that of the newest fine-tuned model, or of the newest one; None if there is none.

    None of them is read for it: of each, newest first, the table of contents at most.
    """
    found = [path for run in runs if (path := last_checkpoint(run)) is not None]
    found.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return next((path for path in found if is_chat(path)), found[0] if found else None)


def last_checkpoint(run: Path) -> Path | None:
    """The last checkpoint in a run's folder; None if it has none."""
    paths = (run / CHECKPOINTS / f"{name}.ckpt" for name in (LAST, PREVIOUS))
    return next((path for path in paths if path.is_file()), None)


def is_chat(path: Path) -> bool:
    """Whether a checkpoint is that of a fine-tuned model. Only its structure is looked at, and nothing unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            content = archive.read(name)
            return any(kind.encode() in content for kind in (CHAT, QUESTIONS))
    except (OSError, StopIteration, zipfile.BadZipFile):
        return False


def base_model_notice(name: str, path: Path, program: str) -> str:
    """What to say of a base model, with the command that makes an assistant of it.

    Args:
        name: of its run.
        path: its checkpoint.
        program: how the user calls the command line.
    """
    tier = Path("configs", f"{name}.yaml")
    if tier.is_file():
        return ONLY_COMPLETES.format(program, tier)
    return ONLY_COMPLETES.format(program, "configs/tiny.yaml") + f" --start_from={shlex.quote(str(path))}"
