"""Sample documentation, and tasks created from it."""

from __future__ import annotations

from nanochat.data.corpus.docstrings import Documented
from nanochat.tasks.arithmetic import Arithmetic
from nanochat.tasks.documentation import docstring_words, documentation, functions
from nanochat.tasks.identity import Identity
from nanochat.tasks.spelling import Spelling
from nanochat.tasks.task import Task

DOCUMENTS = [
    Documented("len", "(obj, /)", "Return the number of items in a container."),
    Documented("abs", "(x, /)", "Return the absolute value of the argument."),
    Documented("dict.keys", "", "D.keys() -> a set-like object providing a view on D's keys"),
    Documented(
        "zip", "", "zip(*iterables, strict=False) --> Yield tuples until an input is exhausted.\n\n   >>> zip()"
    ),
    Documented(
        "max", "", "max(iterable) -> value\nmax(a, b) -> value\n\nWith a single iterable, return its biggest item."
    ),
    Documented("posixpath.join", "(a, *p)", "Join two or more pathname components. If any is absolute,\nothers go."),
    Documented("random.Random.choice", "(seq)", "Choose a random element from a non-empty sequence."),
    Documented("random.Random", "", "Random number generator base class used by bound module functions."),
    Documented("textwrap.dedent", "(text)", "Remove any common leading whitespace from every line in `text`.\n\nMore."),
    Documented("sympy.solve", "(f, *symbols)", "Algebraically solves equations.\n\n>>> solve(x - 1)\n[1]\n\nmore"),
    Documented("sympy._private", "()", "A private function."),
    Documented("numpy.sort", "(a, axis=-1)", "Return a sorted copy of an array, e.g. of a list."),
    Documented("numpy.bad", "()", "... ---"),
]


def all_tasks() -> list[Task]:
    words = ["model", "reads", "text", "learns", *docstring_words(DOCUMENTS)]
    return [functions(DOCUMENTS), documentation(DOCUMENTS), Arithmetic(), Spelling(words), Identity()]
