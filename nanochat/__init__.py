"""Train, understand and talk to your own small language model.

>>> import nanochat
>>> model = nanochat.load("tiny")  # doctest: +SKIP
>>> print(model.chat("What does textwrap.dedent do?"))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanochat.serving.model import Model, load

__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    """What is offered from here is imported when it is first asked for: torch takes a second, which --help need not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nanochat.serving import model

    return getattr(model, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
