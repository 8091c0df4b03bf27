"""Prevents dependencies from importing heavy libraries that no command needs."""

from __future__ import annotations

import re
from functools import cache

# torchmetrics imports both if they are installed, for plots and metrics that this project does not use: 54 MB, and a
# second at each start. Commands that do use them import them by name, which still works.
HIDDEN = ("matplotlib", "transformers")


@cache  # once per process, even if it runs several commands
def hide_unused_packages() -> None:
    """Makes Lightning and torchmetrics, if imported after this call, treat these packages as not installed.

    Both test the truth value of a ``RequirementCache("name>=version")``.
    """
    try:
        from lightning_utilities.core.imports import RequirementCache
    except ModuleNotFoundError:  # the command then reports the missing package
        return
    is_installed = RequirementCache.__bool__

    def is_visible(cache: RequirementCache) -> bool:
        name = re.split(r"[^\w-]", cache.requirement or "")[0]
        return name not in HIDDEN and is_installed(cache)

    RequirementCache.__bool__ = is_visible  # type: ignore[method-assign, assignment]
