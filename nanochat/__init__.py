"""Train, understand and talk to your own small language model.

>>> import nanochat
>>> model = nanochat.load("tiny")  # doctest: +SKIP
>>> print(model.chat("What does textwrap.dedent do?"))  # doctest: +SKIP
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanochat.serving.model import Model, load

__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    """What is offered from here is imported when it is first asked for: torch takes a second, which --help need not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    limit_openmp_spinning()
    from nanochat.serving import model

    return getattr(model, name)


def limit_openmp_spinning() -> None:
    """Lets threads that wait for each other sleep soon, unless the user has said how they are to wait.

    They wait by going round in circles, so many times, before they do. A token takes less than a millisecond, so that
    is mostly what they do; but where another program wants the processor, the one that is waited for does not get it.
    tiny then wrote 8 tokens a second instead of 750, and 1,900 instead of 1,400 on two cores that nobody else used.
    OpenMP reads the variable when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
