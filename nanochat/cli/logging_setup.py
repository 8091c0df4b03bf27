"""Sets up logging, and silences library warnings that users cannot act on."""

from __future__ import annotations

import logging
import sys
import warnings

# Warnings of Lightning and torch that do not apply here, or that users cannot act on.
SILENCED_WARNINGS = (
    r".*does not have many workers.*",  # tokens are read from a file: a worker would only occupy a core
    r".*Checkpoint directory .* exists and is not empty.*",  # a resumed run writes into the same folder
    r".*The dirpath has changed from.*",
    r".*callbacks used to create the checkpoint need to be provided.*",  # validation needs none of them
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*`IterableDataset` has `__len__` defined.*",
    r".*Found \d+ module\(s\) in eval mode.*",
    r".*FSDP2-wrapped module .* returned a view tensor.*",  # the losses, which are not modified in place
    r".*lr_scheduler\.step\(\)` before `optimizer\.step\(\).*",
)


def set_up_logging() -> None:
    """Prints this program's log messages as plain lines, and silences those of Lightning below a warning."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    # logs that a process of the run has ended, and that the others are killed for that reason
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger("nanochat")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)
    for message in SILENCED_WARNINGS:
        warnings.filterwarnings("ignore", message)
