"""Short excerpts of a docstring: its summary sentence, and an example."""

from __future__ import annotations

import re

MAX_SUMMARY = 160  # characters; a longer sentence is not a short answer

# A full stop after an abbreviation or an initial does not end a sentence.
_ABBREVIATIONS = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|al|approx|incl|Fig|Eq|No|St|Dr)|\b[A-Z])\.$")


def docstring_summary(name: str, docstring: str) -> str | None:
    """The first sentence of a docstring, on one line; None if it is missing or longer than ``MAX_SUMMARY``.

    Args:
        name: the documented object; docstrings of C functions begin with its signature (``max(iterable) -> value``),
            which is skipped.
        docstring: the raw docstring.
    """
    last = re.escape(name.split(".")[-1])
    lines = [line.strip() for line in docstring.strip().splitlines()]
    while lines and (not lines[0] or re.match(r"\.\. |[-=*~^+#]{3,}$", lines[0])):
        del lines[0]
    signature = re.compile(rf"[\w.]*\b{last}\(.*?\)(?: *(?:-+>|--) *(?:None[.:] *)?(?P<more>.*))?")
    while lines and (not lines[0] or (found := signature.match(lines[0]))):
        more = found["more"] if lines[0] and found else None
        if more and more.count(" ") >= 4:  # "D.keys() -> a set-like object providing a view on D's keys"
            lines[0] = more[0].upper() + more[1:]
            break
        del lines[0]
    paragraph = []
    for line in lines:
        if not line or line.startswith((">>>", ".. ", "- ", "* ", ":")):
            break
        paragraph.append(line)
    text = re.sub(r"``?([^`]*)``?", r"\1", " ".join(" ".join(paragraph).split()))
    text = re.sub(r":\w+:(?=\S)", "", text)  # reStructuredText roles
    sentence = _first_sentence(text)
    if not 10 <= len(sentence) <= MAX_SUMMARY or not re.match(r"[A-Za-z\"'(]", sentence):
        return None
    return sentence if sentence[-1] in ".!?" else sentence.rstrip(":;,") + "."


def _first_sentence(text: str) -> str:
    for end in re.finditer(r"[.!?](?=\s|$)", text):
        sentence = text[: end.end()]
        if not _ABBREVIATIONS.search(sentence):
            return sentence
    return text


def docstring_example(docstring: str) -> str | None:
    """The first short example of a docstring with its output, at most three lines; None if there is none."""
    lines = [line.strip() for line in docstring.splitlines()]
    starts = [i for i, line in enumerate(lines) if line.startswith(">>> ") and "import" not in line]
    for start in starts[:3]:
        example = [lines[start]]
        for line in lines[start + 1 : start + 3]:
            if not line or (line.startswith(">>> ") and not example[-1].startswith(">>> ")):
                break
            example.append(line)
        text = "\n".join(example)
        if len(text) <= 120 and not example[-1].endswith((",", "(", "[", "{", ":")):
            return text
    return None
