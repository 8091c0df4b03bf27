"""Spelling: a word letter by letter, and how often a letter comes in it, which the calculator counts."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterable

from nanochat.tasks.phrasings import COUNT, SPELL, pick, vary
from nanochat.tasks.task import Item, Task, calculator_call, seeded_rng, single_turn

HELD_OUT_SHARE = 16  # one word of so many is held out
HELD_OUT_ITEMS = 1000
# Of the words to learn from, some are letters at random and some are parts of two words put together: who knows how
# a word goes on, need not read it; what these teach is to read.
INVENTED_SHARE = 0.25
SPLICED_SHARE = 0.4
COUNTING_SHARE = 0.45  # of the questions ask for the number of a letter
LETTERS = "etaoinshrdlucmfwypvbgkqjxz"

# Words that people like to ask about; they are always held out.
EVERYDAY = """
strawberry banana mississippi raspberry blueberry balloon coffee bookkeeper committee address elephant giraffe
butterfly chocolate umbrella rhythm parallel necessary accommodate embarrass occurrence pineapple watermelon tomorrow
assessment possession cinnamon broccoli spaghetti kangaroo alphabet philosophy refrigerator dinosaur tennessee
""".split()


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
        rng = seeded_rng(self.name, seed, index)
        word = self._word(rng)
        while is_held_out(word) or word in EVERYDAY:
            word = self._word(rng)
        return _item(rng, word, held_out=False, ways=(SPELL.learned, COUNT.learned))

    def _word(self, rng: random.Random) -> str:
        chance = rng.random()
        if chance < INVENTED_SHARE or not self._learned:
            return "".join(rng.choices(LETTERS, range(len(LETTERS), 0, -1), k=rng.randint(3, 11)))
        word = pick(rng, self._learned)
        if chance > 1 - SPLICED_SHARE:
            other = pick(rng, self._learned)
            word = (word[: rng.randint(1, len(word))] + other[rng.randrange(len(other)) :])[:12]
        return word

    @property
    def held_out_count(self) -> int:
        return HELD_OUT_ITEMS

    def held_out(self, index: int) -> Item:
        rng = seeded_rng(self.name, "held out", index)
        word = pick(rng, self._held_out)
        spell, count = (p.held_out if index % 2 else p.learned for p in (SPELL, COUNT))
        return _item(rng, word, held_out=True, ways=(spell, count))

    def check(self, item: Item, answer: str) -> bool:
        """Each letter by itself, in their order; or the last number that the answer names."""
        if item.answer.isdigit():
            return re.findall(r"\d+", answer)[-1:] == [item.answer]
        # the word as it stands in the question is no spelling of it, and would be rewarded as one
        return re.findall(r"[a-z]+", answer.lower()) == list(item.answer)


def _item(rng: random.Random, word: str, held_out: bool, ways: tuple[tuple[str, ...], tuple[str, ...]]) -> Item:
    counts = rng.random() < COUNTING_SHARE
    way = pick(rng, ways[counts])
    way = way if held_out else vary(rng, way)
    if not counts:
        spelled = " ".join(word)  # with the space before it, a letter is one token of most vocabularies
        return single_turn(way.format(w=word), spelled, word)
    letter = pick(rng, word) if rng.random() < 0.8 else pick(rng, LETTERS)
    number = word.count(letter)
    text = f"{number} time{'s' if number != 1 else ''}."
    return single_turn(
        way.format(w=word, c=letter), calculator_call(f'"{word}".count("{letter}")', str(number), text), str(number)
    )


def is_held_out(word: str) -> bool:
    return zlib.crc32(word.encode()) % HELD_OUT_SHARE == 0
