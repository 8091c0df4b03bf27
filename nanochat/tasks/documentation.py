"""Questions that the documentation on this machine answers: what something does, its arguments, an example of it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from nanochat.tasks.common_functions import FUNCTIONS, documented_names
from nanochat.tasks.docstring_excerpts import docstring_example, docstring_summary
from nanochat.tasks.phrasings import ARGUMENTS, EXAMPLE, NAMES, SIGNATURE_OF_NONE, SUMMARY, WHICH, pick, vary
from nanochat.tasks.task import Item, Task, permuted_index, seeded_rng, single_turn

LONGEST_SIGNATURE = 80  # characters; a longer one is no short answer


class Document(Protocol):
    """Something that has a docstring."""

    @property
    def name(self) -> str: ...  # as one would import it: "textwrap.dedent"
    @property
    def signature(self) -> str: ...  # "(text)", or ""
    @property
    def docstring(self) -> str: ...


class Entry(NamedTuple):
    """What can be asked about a document, and answered.

    Attributes:
        name: under which it is asked for.
        summary: what it does, in a sentence.
        signature: with its name, or "" where it has none or a long one.
        example: a few lines of code, or "".
    """

    name: str
    summary: str
    signature: str
    example: str


def to_entry(name: str, document: Document) -> Entry | None:
    """What a document says shortly; None if it does not say even what it is about."""
    short = docstring_summary(document.name, document.docstring)
    if short is None:
        return None
    signature = " ".join(document.signature.split())
    if signature == "()":
        signature = SIGNATURE_OF_NONE.format(x=name)
    elif signature:
        signature = name + re.sub(r", /(?=\))|/, ", "", signature)  # a mark for the interpreter, not for people
    if len(signature) > LONGEST_SIGNATURE or "<" in signature:
        signature = ""
    return Entry(name, short, signature, docstring_example(document.docstring) or "")


def function_entries(documents: Iterable[Document]) -> list[Entry]:
    """Those of the functions that are used most, as far as the documentation has a summary of them."""
    wanted = {other: name for name in FUNCTIONS for other in documented_names(name)}
    found: dict[str, list[Document]] = {}
    for document in documents:
        if document.name in wanted:
            found.setdefault(document.name, []).append(document)
    entries = []
    for name in FUNCTIONS:
        candidates = [d for other in documented_names(name) for d in found.get(other, ())]
        possible = (to_entry(name, d) for d in candidates)
        entry = next((e for e in possible if e is not None), None)
        if entry is not None:
            entries.append(entry)
    return entries


def other_entries(documents: Iterable[Document]) -> list[Entry]:
    """Everything else that is public, each name once."""
    taken = {other for name in FUNCTIONS for other in documented_names(name)}
    entries: dict[str, Entry] = {}
    for document in documents:
        private = any(part.startswith("_") for part in document.name.split("."))
        if not private and "." in document.name and document.name not in taken and document.name not in entries:
            entry = to_entry(document.name, document)
            if entry is not None:
                entries[document.name] = entry
    return list(entries.values())


class DocumentationQuestions(Task):
    """Questions about entries; the share of each kind of question can be chosen.

    Held out are ways of asking: the entries are what is to be known, so all of them are learned.

    Args:
        name: of the task.
        entries: what is asked about.
        kinds: the share of questions for "summary", "arguments", "example" and "which".
    """

    def __init__(self, name: str, entries: Sequence[Entry], kinds: dict[str, float]) -> None:
        if not entries:
            raise ValueError(f"there is no documentation on this machine that the task {name} could ask about")
        self.name, self.entries, self.kinds = name, entries, kinds
        counts: dict[str, int] = {}
        for entry in entries:
            counts[entry.summary] = counts.get(entry.summary, 0) + 1
        self._unique = {text for text, count in counts.items() if count == 1}

    def item(self, seed: int, index: int) -> Item:
        which, turn = permuted_index(seed, index, len(self.entries), self.name)
        rng = seeded_rng(self.name, seed, which, turn)
        return self._ask(rng, self.entries[which])

    def _ask(self, rng: random.Random, entry: Entry) -> Item:
        kind = rng.choices(list(self.kinds), list(self.kinds.values()))[0]
        name = pick(rng, NAMES).format(x=entry.name) if rng.random() < 0.15 else entry.name
        if kind == "arguments" and entry.signature:
            return single_turn(vary(rng, pick(rng, ARGUMENTS.learned)).format(x=name), entry.signature)
        if kind == "example" and entry.example:
            return single_turn(vary(rng, pick(rng, EXAMPLE.learned)).format(x=name), entry.example)
        if kind == "which" and entry.summary in self._unique:
            return single_turn(pick(rng, WHICH.learned).format(s=entry.summary), entry.name)
        return single_turn(vary(rng, pick(rng, SUMMARY.learned)).format(x=name), entry.summary)

    @property
    def held_out_count(self) -> int:
        return len(self.entries)

    def held_out(self, index: int) -> Item:
        """What an entry does, asked in words that are never learned from."""
        which, _ = permuted_index(0, index, len(self.entries), self.name, "held out")
        entry = self.entries[which]
        phrase = pick(seeded_rng(self.name, "held out", index), SUMMARY.held_out)
        return single_turn(phrase.format(x=entry.name), entry.summary)


def functions(documents: Sequence[Document]) -> DocumentationQuestions:
    """The task "functions": those that programs use most."""
    kinds = {"summary": 0.82, "arguments": 0.08, "example": 0.04, "which": 0.06}
    return DocumentationQuestions("functions", function_entries(documents), kinds)


def documentation(documents: Sequence[Document]) -> DocumentationQuestions:
    """The task "documentation": everything else that is documented."""
    kinds = {"summary": 0.55, "arguments": 0.2, "example": 0.1, "which": 0.15}
    return DocumentationQuestions("documentation", other_entries(documents), kinds)


def docstring_words(documents: Iterable[Document], least: int = 3, most: int = 12) -> Iterator[str]:
    """The lower-case words of summaries, again and again, for tasks about words."""
    for document in documents:
        for word in re.findall(r"[a-z]+", document.docstring[:300]):
            if least <= len(word) <= most:
                yield word
