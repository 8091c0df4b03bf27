"""Whether `fit` would take what a sweep is about to give it: asked in a process of its own, for torch's memory."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from nanochat.cli.errors import UsageError
from nanochat.options import flatten_config
from nanochat.wording import one_line


class Base(NamedTuple):
    """What the trials of a sweep have in common.

    Attributes:
        name: of the run that the options are for.
        stage: of training.
        root: the folder that lightning_logs is in.
        seed: the first.
        start_from: the checkpoint whose weights every trial begins with; None for fresh ones.
        by_clock: whether a trial takes as many steps as fit into its time.
        settings: all of them, by their names.
    """

    name: str
    stage: str
    root: str
    seed: int
    start_from: str | None
    by_clock: bool
    settings: dict[str, Any]


def check(options: Sequence[str], more: Sequence[Sequence[str]]) -> Base:
    """What `fit` makes of the options of a sweep.

    Everything is done but the training: whatever is refused before the first file is read comes out here.

    Args:
        options: that all trials have.
        more: each with words that are put behind them, and tried by themselves.

    Raises:
        UsageError: with what `fit` says.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    words = [list(each) for each in more]
    process = context.Process(target=_answer, args=(sender, list(options), words), daemon=True)
    # Ctrl-C is for the process that asks. The other is deaf to it from its first moment on, or would show a traceback.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, heard)
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        answer = f"fit could not be asked: its process ended ({process.exitcode})"
    finally:
        process.terminate()  # it has nothing more to say; after Ctrl-C nobody waits for it
        process.join()
        receiver.close()
    if isinstance(answer, str):
        raise UsageError(answer)
    assert isinstance(answer, Base)
    return answer


def _answer(sender: Connection, options: list[str], more: list[list[str]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it is not handed on, as on Windows
    sender.send(_check(options, more))
    sender.close()


def _check(options: list[str], more: list[list[str]]) -> Base | str:
    """In the other process; an error is handed over as its text."""
    base = None
    for words in ([], *more):
        found = _ask([*options, *words])
        if isinstance(found, str):
            is_named = not words or any(word.split("=")[0] in found for word in words)
            return found if is_named else f"{' '.join(words)}: {found}"
        base = base or found
    assert base is not None
    return base


def _ask(options: list[str]) -> Base | str:
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from nanochat.cli.logging_setup import set_up_logging
    from nanochat.cli.training import NanochatCLI

    class Unrun(NanochatCLI):
        """The command line with everything but the run."""

        before: Any = None

        def before_instantiate_classes(self) -> None:
            self.before = self.config[self.subcommand].clone()
            super().before_instantiate_classes()

        def _run_subcommand(self, subcommand: str) -> None:
            pass

    set_up_logging()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            cli = Unrun(["fit", *options])
    except (ValueError, OSError, MisconfigurationException) as error:
        return one_line(str(error))
    except SystemExit:
        return "what only prints something belongs to fit, not to a sweep"
    except Exception as error:  # which fit itself would show as it is
        return one_line(f"{type(error).__name__}: {error}")[:300]
    return _base(cli)


def _base(cli: Any) -> Base:
    config, before = cli.config["fit"], cli.before
    seed, settings = config.seed_everything, flatten_config(before.as_dict())
    return Base(
        name=str(config.name),
        stage=str(config.stage),
        root=str(config.trainer.default_root_dir or Path()),
        seed=int(seed) if not isinstance(seed, bool) else 42,
        start_from=str(config.start_from) if config.get("start_from") else None,
        by_clock=before.trainer.max_steps == -1 and config.trainer.max_steps == -1,
        settings={name: value for name, value in settings.items() if name not in ("config", "name")},
    )
