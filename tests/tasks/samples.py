"""Sample documentation, and tasks created from it."""

from __future__ import annotations

from nanochat.data.corpus.docstrings import DocEntry
from nanochat.tasks.arithmetic import Arithmetic
from nanochat.tasks.documentation import docstring_words, documentation, functions
from nanochat.tasks.identity import Identity
from nanochat.tasks.spelling import Spelling
from nanochat.tasks.task import Task

DOCUMENTS = [
    DocEntry("len", "(obj, /)", "Return the number of items in a container."),
    DocEntry("abs", "(x, /)", "Return the absolute value of the argument."),
    DocEntry("dict.keys", "", "D.keys() -> a set-like object providing a view on D's keys"),
    DocEntry("zip", "", "zip(*iterables, strict=False) --> Yield tuples until an input is exhausted.\n\n   >>> zip()"),
    DocEntry(
        "max", "", "max(iterable) -> value\nmax(a, b) -> value\n\nWith a single iterable, return its biggest item."
    ),
    DocEntry("posixpath.join", "(a, *p)", "Join two or more pathname components. If any is absolute,\nothers go."),
    DocEntry("random.Random.choice", "(seq)", "Choose a random element from a non-empty sequence."),
    DocEntry("random.Random", "", "Random number generator base class used by bound module functions."),
    DocEntry("textwrap.dedent", "(text)", "Remove any common leading whitespace from every line in `text`.\n\nMore."),
    DocEntry("sympy.solve", "(f, *symbols)", "Algebraically solves equations.\n\n>>> solve(x - 1)\n[1]\n\nmore"),
    DocEntry("sympy._private", "()", "Nobody should ask about this."),
    DocEntry("numpy.sort", "(a, axis=-1)", "Return a sorted copy of an array, e.g. of a list."),
    DocEntry("numpy.bad", "()", "... ---"),
]


def all_tasks() -> list[Task]:
    words = ["model", "reads", "text", "learns", *docstring_words(DOCUMENTS)]
    return [functions(DOCUMENTS), documentation(DOCUMENTS), Arithmetic(), Spelling(words), Identity()]
