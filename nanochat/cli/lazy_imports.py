"""Keeps libraries out of memory that no command of this program asks for."""

from __future__ import annotations

import re
from functools import cache

# torchmetrics loads both where it finds them, for figures and scores that are not used here: 54 MB, and a second of
# each start. Who does use them here imports them by name, and so finds them all the same.
HIDDEN = ("matplotlib", "transformers")


@cache  # once a process, however many commands it runs
def hide_unused_packages() -> None:
    """Lets Lightning and torchmetrics, when they are imported after this, believe that these are not installed.

    Both ask by the truth of a ``RequirementCache("name>=version")``.
    """
    try:
        from lightning_utilities.core.imports import RequirementCache
    except ModuleNotFoundError:  # `doctor` says what is missing, and so do the commands that want it
        return
    asked = RequirementCache.__bool__

    def is_there(cache: RequirementCache) -> bool:
        name = re.split(r"[^\w-]", cache.requirement or "")[0]
        return name not in HIDDEN and asked(cache)

    RequirementCache.__bool__ = is_there  # type: ignore[method-assign, assignment]
