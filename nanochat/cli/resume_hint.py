"""The message after a run was interrupted: how to resume it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from lightning.fabric.utilities.rank_zero import rank_zero_only

from nanochat.cli.errors import EXIT_INTERRUPTED
from nanochat.cli.main import program_name
from nanochat.training.callbacks.interrupt import Interrupted
from nanochat.training.checkpoint.loading import LAST


def print_resume_hint(stop: Interrupted, arguments: Sequence[str]) -> int:
    """Prints the message on rank 0; returns the exit status: 0 if the cluster requeued the job."""
    if getattr(rank_zero_only, "rank", 0) == 0:
        after = f"Stopped after step {stop.step:,}"
        if stop.before_first_step:
            message = "Stopped before the first step, so the job is not requeued: give it more time."
        elif stop.requeued:
            message = f"{after}; all is saved, and the requeued job will resume."
        elif stop.checkpoint is None:
            message = f"{after}; nothing is saved, as checkpoints are off."
        else:
            before = ["", *arguments]
            words = [w for w, b in zip(arguments, before, strict=False) if "--ckpt_path" not in (w.split("=")[0], b)]
            message = f"{after}; all is saved. To go on:\n  {program_name()} {shlex.join(words)} --ckpt_path={LAST}"
        print(f"\n{message}", file=sys.stderr)
    if stop.requeued:
        return 0
    return 128 + stop.number if stop.number is not None else EXIT_INTERRUPTED
