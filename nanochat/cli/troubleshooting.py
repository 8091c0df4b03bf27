"""The section of docs/troubleshooting.md for each error. (A test compares the two.)"""

from __future__ import annotations

import re

PAGE = "docs/troubleshooting.md"
COMPLETE = r"is whole: --ckpt_path=|try --port=\d+$"  # a message that already ends with the solution
# (section, pattern): the first pattern found in a message decides. Messages that need no explanation match none.
SECTIONS = (
    ("memory", r"this run needs about .* of memory|the GPU's memory is full"),
    ("disk", r"the disk is full|cannot write the checkpoint|are to be fetched, but .* free|No space left on device"),
    (
        "export",
        r"the folder .* is not empty|is a pickle, which is never read"
        r"|only models of type .* can be read",
    ),
    (
        "checkpoints",
        r"there is no (?:last |best |\.\.\. )?checkpoint|is not a whole checkpoint|is not a checkpoint of this project"
        r"|the checkpoint .* has .*: give|the weights in .* are not those of this model|there is no pretrained model"
        r"|there is no .* model below|which this version does not run",
    ),
    (
        "network",
        r"is not on this machine and cannot be fetched|is given only to those who agreed|is private and needs HF_TOKEN"
        r"|arrived damaged twice|the CORE tasks cannot be downloaded",
    ),
    (
        "corpus",
        r"there is no file or folder .* a corpus is|the folder .* holds no text|the corpus .* is empty"
        r"|the corpus is too small|has no column|it has no good record|is damaged or is not a parquet file"
        r"|a step of .* tokens does not divide|bad record|there is no task",
    ),
    ("gpu", r"there is no NVIDIA GPU that torch can use|this machine has no Apple GPU|there is no device \S+ here"),
    (
        "processes",
        r"port .* of this machine is taken|the first process of this run|another process of this run has ended"
        r"|the processes of this run",
    ),
    (
        "chat",
        r"there is no model below|there is no run \S+ below|is a base model: it continues|the last message .* too long"
        r"|port .* is in use|this host name is not allowed|programs written by the model cannot be isolated",
    ),
)


def section(message: str) -> str | None:
    """The anchor of the section that explains a message; None if there is none."""
    if re.search(COMPLETE, message):
        return None
    return next((name for name, pattern in SECTIONS if re.search(pattern, message)), None)


def with_section(message: str) -> str:
    """The message, followed by a link to its section if it has one."""
    found = section(message)
    return f"{message} (see {PAGE}#{found})" if found else message
