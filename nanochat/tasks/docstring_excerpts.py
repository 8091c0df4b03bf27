"""What a docstring says in one sentence, and other short answers that can be read off it."""

from __future__ import annotations

import re

LONGEST = 160  # characters of a summary; what takes longer is no short answer

# Ends of sentences that are none.
_ABBREVIATIONS = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|al|approx|incl|Fig|Eq|No|St|Dr)|\b[A-Z])\.$")


def docstring_summary(name: str, docstring: str) -> str | None:
    """The first sentence of a docstring, on one line; None if there is no short one.

    Args:
        name: of what is documented: docstrings of C functions begin with lines like ``max(iterable) -> value``.
        docstring: as it was written.
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
    text = re.sub(r":\w+:(?=\S)", "", text)  # roles of reStructuredText
    sentence = _first_sentence(text)
    if not sentence or len(sentence) > LONGEST or len(sentence) < 10 or not re.match(r"[A-Za-z\"'(]", sentence):
        return None
    return sentence if sentence[-1] in ".!?" else sentence.rstrip(":;,") + "."


def _first_sentence(text: str) -> str:
    for end in re.finditer(r"[.!?](?=\s|$)", text):
        sentence = text[: end.end()]
        if not _ABBREVIATIONS.search(sentence):
            return sentence
    return text


def docstring_example(docstring: str) -> str | None:
    """The first example of a docstring with what it prints, at most three lines; None if there is no short one."""
    lines = [line.strip() for line in docstring.splitlines()]
    starts = [i for i, line in enumerate(lines) if line.startswith(">>> ") and "import" not in line]
    for start in starts[:3]:
        taken = [lines[start]]
        for line in lines[start + 1 : start + 3]:
            if not line or (line.startswith(">>> ") and not taken[-1].startswith(">>> ")):
                break
            taken.append(line)
        text = "\n".join(taken)
        if len(text) <= 120 and not taken[-1].endswith((",", "(", "[", "{", ":")):
            return text
    return None
