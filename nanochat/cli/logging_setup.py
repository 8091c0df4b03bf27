"""What the libraries say by themselves and helps nobody is kept back."""

from __future__ import annotations

import logging
import sys
import warnings

# Lightning's and torch's remarks that a user of this program can do nothing about, or that are wrong here.
NEEDLESS_WARNINGS = (
    r".*does not have many workers.*",  # the rows lie ready in a file: a worker would only take a core away
    r".*Checkpoint directory .* exists and is not empty.*",  # a resumed run goes on in its folder
    r".*The dirpath has changed from.*",
    r".*callbacks used to create the checkpoint need to be provided.*",  # scoring needs none of them
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*`IterableDataset` has `__len__` defined.*",
    r".*Found \d+ module\(s\) in eval mode.*",
    r".*FSDP2-wrapped module .* returned a view tensor.*",  # the losses, on which nothing works in place
    r".*lr_scheduler\.step\(\)` before `optimizer\.step\(\).*",
)


def set_up_logging() -> None:
    """Shows this program's messages as plain lines, and keeps back those of others that help nobody."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    # says that a process of the run has ended, and that the others will be killed for it
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger("nanochat")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)
    for message in NEEDLESS_WARNINGS:
        warnings.filterwarnings("ignore", message)
