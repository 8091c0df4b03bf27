"""Spelling: a word letter by letter, and how often a letter comes in it, which the calculator counts."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterable

from nanochat.tasks.task import Item, Task, asked, call, generator, pick

HELD_OUT_SHARE = 16  # one word of so many is held out
HELD_OUT_ITEMS = 1000
INVENTED_SHARE = 0.3  # of the words to learn from are letters at random: whoever copies these can copy any word
COUNTING_SHARE = 0.6  # of the questions ask for the number of a letter
LETTERS = "etaoinshrdlucmfwypvbgkqjxz"

# Words that people like to ask about; they are always held out.
EVERYDAY = """
strawberry banana mississippi raspberry blueberry balloon coffee bookkeeper committee address elephant giraffe
butterfly chocolate umbrella rhythm parallel necessary accommodate embarrass occurrence pineapple watermelon tomorrow
assessment possession cinnamon broccoli spaghetti kangaroo alphabet philosophy refrigerator dinosaur tennessee
""".split()

SPELL = (
    "How do you spell {w}?",
    "how do you spell {w}",
    'How do you spell "{w}"?',
    "Spell {w}.",
    "Spell the word {w}.",
    'Spell the word "{w}".',
    "Please spell {w}.",
    "Can you spell {w}?",
    "How is {w} spelled?",
    "Spell {w} letter by letter.",
    "What are the letters of {w}?",
)
SPELL_HELD_OUT = ("I would like you to spell {w}.", "Write {w} letter by letter.", "Which letters are in the word {w}?")
COUNT = (
    "How many {c} in {w}?",
    "how many {c} in {w}",
    "How many {c} are in {w}?",
    "How many {c} are there in {w}?",
    'How many "{c}" are in "{w}"?',
    "How many {c}'s are in {w}?",
    "how many {c}'s are in {w}",
    "How many {c}s are in {w}?",
    "How many times does {c} appear in {w}?",
    "How often does {c} occur in {w}?",
    "How often is the letter {c} in {w}?",
    "Count the {c} in {w}.",
    "Count the letter {c} in the word {w}.",
    'Count the letter "{c}" in "{w}".',
    "How many letters {c} does {w} have?",
    "How many {c} does the word {w} have?",
    "How many times is {c} in the word {w}?",
)
COUNT_HELD_OUT = (
    "Tell me how many {c} the word {w} has.",
    "What is the number of {c} in {w}?",
    "In {w}, how many {c} do you find?",
    "How often do I write {c} in {w}?",
)


class Spelling(Task):
    """Words to spell and letters to count. Held out are words; half of them are asked in words of their own.

    Args:
        words: what is asked about; each counts once.
    """

    name = "spelling"

    def __init__(self, words: Iterable[str]) -> None:
        different = sorted({*words} - {*EVERYDAY})
        self._learned = [word for word in different if not is_held_out(word)]
        self._held_out = [*EVERYDAY, *(word for word in different if is_held_out(word))]

    def item(self, seed: int, index: int) -> Item:
        rng = generator(self.name, seed, index)
        invented = rng.random() < INVENTED_SHARE or not self._learned
        word = _invented(rng) if invented else pick(rng, self._learned)
        return _item(rng, word, SPELL, COUNT)

    @property
    def held_out_count(self) -> int:
        return HELD_OUT_ITEMS

    def held_out(self, index: int) -> Item:
        rng = generator(self.name, "held out", index)
        word = pick(rng, self._held_out)
        return _item(rng, word, *((SPELL_HELD_OUT, COUNT_HELD_OUT) if index % 2 else (SPELL, COUNT)))

    def check(self, item: Item, answer: str) -> bool:
        """The letters in their order, or the last number that the answer names."""
        if item.answer.isdigit():
            return re.findall(r"\d+", answer)[-1:] == [item.answer]
        return re.sub(r"[^a-z]", "", answer.lower()) == item.answer


def _item(rng: random.Random, word: str, spell: tuple[str, ...], count: tuple[str, ...]) -> Item:
    if rng.random() >= COUNTING_SHARE:
        return asked(pick(rng, spell).format(w=word), "-".join(word), word)
    letter = pick(rng, word) if rng.random() < 0.8 else pick(rng, LETTERS)
    number = word.count(letter)
    text = f"{number} time{'s' if number != 1 else ''}."
    question = pick(rng, count).format(w=word, c=letter)
    return asked(question, call(f'"{word}".count("{letter}")', str(number), text), str(number))


def _invented(rng: random.Random) -> str:
    while True:
        word = "".join(rng.choices(LETTERS, range(len(LETTERS), 0, -1), k=rng.randint(3, 11)))
        if not is_held_out(word) and word not in EVERYDAY:
            return word


def is_held_out(word: str) -> bool:
    return zlib.crc32(word.encode()) % HELD_OUT_SHARE == 0
