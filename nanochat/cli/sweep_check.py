"""Checks the options of a sweep with `fit`'s parser, in a subprocess, so that the sweep itself does not load torch."""

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


class CommonOptions(NamedTuple):
    """The options that all trials of a sweep have in common.

    Attributes:
        name: name of the run.
        stage: stage of training.
        root: the folder that contains lightning_logs.
        seed: the first seed.
        start_from: the checkpoint whose weights every trial starts with; None for a random initialisation.
        time_limited: whether the number of steps depends on the speed, since the time is given.
        settings: all options by name, before derived values are filled in.
    """

    name: str
    stage: str
    root: str
    seed: int
    start_from: str | None
    time_limited: bool
    settings: dict[str, Any]


def check_options(options: Sequence[str], variations: Sequence[Sequence[str]]) -> CommonOptions:
    """Parses the options of a sweep as `fit` does, up to the point where training would start.

    Args:
        options: options of all trials.
        variations: varied options; each variation is appended to ``options`` and checked separately.

    Raises:
        UsageError: with the error message of `fit`.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, list(options), [list(words) for words in variations])
    process = context.Process(target=_worker, args=arguments, daemon=True)
    # Ctrl-C is handled by this process. The subprocess ignores it from its start, or it would print a traceback.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, handler)
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        answer = f"the options could not be checked: the process of fit ended with exit status {process.exitcode}"
    finally:
        process.terminate()  # after Ctrl-C it may still be running
        process.join()
        receiver.close()
    if isinstance(answer, str):
        raise UsageError(answer)
    assert isinstance(answer, CommonOptions)
    return answer


def _worker(sender: Connection, options: list[str], variations: list[list[str]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for systems where it is not inherited, such as Windows
    sender.send(_check(options, variations))
    sender.close()


def _check(options: list[str], variations: list[list[str]]) -> CommonOptions | str:
    """The options without a variation, or the first error message."""
    common = None
    for words in ([], *variations):
        parsed = _parse([*options, *words])
        if isinstance(parsed, str):
            is_named = not words or any(word.split("=")[0] in parsed for word in words)
            return parsed if is_named else f"{' '.join(words)}: {parsed}"
        common = common or parsed
    assert common is not None
    return common


def _parse(options: list[str]) -> CommonOptions | str:
    """The options, or an error message."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from nanochat.cli.logging_setup import set_up_logging
    from nanochat.cli.training import NanochatCLI

    class ParseOnlyCLI(NanochatCLI):
        """The command line without running the subcommand."""

        config_before: Any = None

        def before_instantiate_classes(self) -> None:
            self.config_before = self.config[self.subcommand].clone()
            super().before_instantiate_classes()

        def _run_subcommand(self, subcommand: str) -> None:
            pass

    set_up_logging()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            cli = ParseOnlyCLI(["fit", *options])
    except (ValueError, OSError, MisconfigurationException) as error:
        return one_line(str(error))
    except SystemExit:
        return "options that only print something are not for a sweep: give them to fit"
    except Exception as error:  # for which fit would print a traceback
        return one_line(f"{type(error).__name__}: {error}")[:300]
    return _common_options(cli)


def _common_options(cli: Any) -> CommonOptions:
    config, before = cli.config["fit"], cli.config_before
    seed, settings = config.seed_everything, flatten_config(before.as_dict())
    return CommonOptions(
        name=str(config.name),
        stage=str(config.stage),
        root=str(config.trainer.default_root_dir or Path()),
        seed=int(seed) if not isinstance(seed, bool) else 42,
        start_from=str(config.start_from) if config.get("start_from") else None,
        time_limited=before.trainer.max_steps == -1 and config.trainer.max_steps == -1,
        settings={name: value for name, value in settings.items() if name not in ("config", "name")},
    )
