"""Questions about installed documentation: what a function does, its arguments, an example, or which one it is."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from nanochat.tasks.common_functions import FUNCTIONS, documented_names
from nanochat.tasks.docstring_excerpts import docstring_example, docstring_summary
from nanochat.tasks.phrasings import ARGUMENTS, EXAMPLE, IDENTIFY, NAMES, SIGNATURE_OF_NONE, SUMMARY, pick, vary
from nanochat.tasks.task import Item, Task, permuted_index, seeded_rng, single_turn

MAX_SIGNATURE = 80  # characters; a longer signature is not a short answer


class Document(Protocol):
    """A documented object."""

    @property
    def name(self) -> str: ...  # its full name: "textwrap.dedent"
    @property
    def signature(self) -> str: ...  # "(text)", or ""
    @property
    def docstring(self) -> str: ...


class Entry(NamedTuple):
    """The answers to questions about one documented object.

    Attributes:
        name: its name in questions.
        summary: one sentence about what it does.
        signature: its name and signature; empty if there is none, or a long one.
        example: a few lines of code; empty if there is none.
    """

    name: str
    summary: str
    signature: str
    example: str


def to_entry(name: str, document: Document) -> Entry | None:
    """The entry of a document; None if its docstring has no short summary."""
    summary = docstring_summary(document.name, document.docstring)
    if summary is None:
        return None
    signature = " ".join(document.signature.split())
    if signature == "()":
        signature = SIGNATURE_OF_NONE.format(x=name)
    elif signature:
        signature = name + re.sub(r", /(?=\))|/, ", "", signature)  # without the marker of positional-only parameters
    if len(signature) > MAX_SIGNATURE or "<" in signature:
        signature = ""
    return Entry(name, summary, signature, docstring_example(document.docstring) or "")


def function_entries(documents: Iterable[Document]) -> list[Entry]:
    """The entries of the common functions (:data:`~nanochat.tasks.common_functions.FUNCTIONS`) that have a summary."""
    wanted = {alias for name in FUNCTIONS for alias in documented_names(name)}
    found: dict[str, list[Document]] = {}
    for document in documents:
        if document.name in wanted:
            found.setdefault(document.name, []).append(document)
    entries = []
    for name in FUNCTIONS:
        candidates = [d for alias in documented_names(name) for d in found.get(alias, ())]
        possible = (to_entry(name, d) for d in candidates)
        entry = next((e for e in possible if e is not None), None)
        if entry is not None:
            entries.append(entry)
    return entries


def other_entries(documents: Iterable[Document]) -> list[Entry]:
    """The entries of all other public names, each once."""
    common = {alias for name in FUNCTIONS for alias in documented_names(name)}
    entries: dict[str, Entry] = {}
    for document in documents:
        private = any(component.startswith("_") for component in document.name.split("."))
        if not private and "." in document.name and document.name not in common and document.name not in entries:
            entry = to_entry(document.name, document)
            if entry is not None:
                entries[document.name] = entry
    return list(entries.values())


class DocumentationQuestions(Task):
    """Questions about entries.

    Phrasings are held out, entries are not: the model can only answer about entries that it was trained on.

    Args:
        name: name of the task.
        entries: the subjects of the questions.
        kinds: the weights of the kinds of questions: "summary", "arguments", "example" and "identify".

    Raises:
        ValueError: if there are no entries.
    """

    def __init__(self, name: str, entries: Sequence[Entry], kinds: dict[str, float]) -> None:
        if not entries:
            raise ValueError(f"there is no documentation on this machine for the task {name}: leave it out")
        self.name, self.entries, self.kinds = name, entries, kinds
        counts: dict[str, int] = {}
        for entry in entries:
            counts[entry.summary] = counts.get(entry.summary, 0) + 1
        self._unique = {text for text, count in counts.items() if count == 1}

    def item(self, seed: int, index: int) -> Item:
        chosen, epoch = permuted_index(seed, index, len(self.entries), self.name)
        rng = seeded_rng(self.name, seed, chosen, epoch)
        return self._ask(rng, self.entries[chosen])

    def _ask(self, rng: random.Random, entry: Entry) -> Item:
        kind = rng.choices(list(self.kinds), list(self.kinds.values()))[0]
        name = pick(rng, NAMES).format(x=entry.name) if rng.random() < 0.15 else entry.name
        if kind == "arguments" and entry.signature:
            return single_turn(vary(rng, pick(rng, ARGUMENTS.train)).format(x=name), entry.signature)
        if kind == "example" and entry.example:
            return single_turn(vary(rng, pick(rng, EXAMPLE.train)).format(x=name), entry.example)
        if kind == "identify" and entry.summary in self._unique:
            return single_turn(pick(rng, IDENTIFY.train).format(s=entry.summary), entry.name)
        return single_turn(vary(rng, pick(rng, SUMMARY.train)).format(x=name), entry.summary)

    @property
    def held_out_count(self) -> int:
        return len(self.entries)

    def held_out(self, index: int) -> Item:
        """A question about the summary of an entry, in a held-out phrasing."""
        chosen, _ = permuted_index(0, index, len(self.entries), self.name, "held out")
        entry = self.entries[chosen]
        phrasing = pick(seeded_rng(self.name, "held out", index), SUMMARY.held_out)
        return single_turn(phrasing.format(x=entry.name), entry.summary)


def functions(documents: Sequence[Document]) -> DocumentationQuestions:
    """The task "functions": questions about common functions."""
    kinds = {"summary": 0.82, "arguments": 0.08, "example": 0.04, "identify": 0.06}
    return DocumentationQuestions("functions", function_entries(documents), kinds)


def documentation(documents: Sequence[Document]) -> DocumentationQuestions:
    """The task "documentation": questions about all other documented objects."""
    kinds = {"summary": 0.55, "arguments": 0.2, "example": 0.1, "identify": 0.15}
    return DocumentationQuestions("documentation", other_entries(documents), kinds)


def docstring_words(documents: Iterable[Document], least: int = 3, most: int = 12) -> Iterator[str]:
    """The lower-case words in the first 300 characters of each docstring, with repetitions, for the spelling task."""
    for document in documents:
        for word in re.findall(r"[a-z]+", document.docstring[:300]):
            if least <= len(word) <= most:
                yield word
