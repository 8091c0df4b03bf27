"""Spelling: writing a word letter by letter, and counting a letter in a word with the calculator."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterable

from nanochat.tasks.phrasings import COUNT, SPELL, pick, vary
from nanochat.tasks.task import Item, Task, calculator_call, seeded_rng, single_turn

HELD_OUT_EVERY = 16  # one word in 16 is held out
HELD_OUT_ITEMS = 1000
# A model that has memorised the spelling of a word need not read it. So a share of the training words consist of random
# letters, and a share are spliced from two words.
RANDOM_SHARE = 0.25
SPLICED_SHARE = 0.4
COUNTING_SHARE = 0.45  # share of questions that count a letter; the others ask for the spelling
LETTERS = "etaoinshrdlucmfwypvbgkqjxz"  # by frequency in English

# Words that users commonly ask about; they are always held out.
EVERYDAY = """
strawberry banana mississippi raspberry blueberry balloon coffee bookkeeper committee address elephant giraffe
butterfly chocolate umbrella rhythm parallel necessary accommodate embarrass occurrence pineapple watermelon tomorrow
assessment possession cinnamon broccoli spaghetti kangaroo alphabet philosophy refrigerator dinosaur tennessee
""".split()


class Spelling(Task):
    """Words to spell and letters to count. Words are held out; half of them are asked about in held-out phrasings.

    Args:
        words: the words to ask about; repetitions are ignored.
    """

    name = "spelling"

    def __init__(self, words: Iterable[str]) -> None:
        unique = sorted({*words} - {*EVERYDAY})
        self._train = [word for word in unique if not is_held_out(word)]
        self._held_out = [*EVERYDAY, *(word for word in unique if is_held_out(word))]

    def item(self, seed: int, index: int) -> Item:
        rng = seeded_rng(self.name, seed, index)
        word = self._word(rng)
        while is_held_out(word) or word in EVERYDAY:
            word = self._word(rng)
        return _item(rng, word, held_out=False, phrasings=(SPELL.train, COUNT.train))

    def _word(self, rng: random.Random) -> str:
        """A training word: of random letters, a real word, or one spliced from two real words."""
        chance = rng.random()
        if chance < RANDOM_SHARE or not self._train:
            return "".join(rng.choices(LETTERS, range(len(LETTERS), 0, -1), k=rng.randint(3, 11)))
        word = pick(rng, self._train)
        if chance > 1 - SPLICED_SHARE:
            other = pick(rng, self._train)
            word = (word[: rng.randint(1, len(word))] + other[rng.randrange(len(other)) :])[:12]
        return word

    @property
    def held_out_count(self) -> int:
        return HELD_OUT_ITEMS

    def held_out(self, index: int) -> Item:
        rng = seeded_rng(self.name, "held out", index)
        word = pick(rng, self._held_out)
        spell, count = (p.held_out if index % 2 else p.train for p in (SPELL, COUNT))
        return _item(rng, word, held_out=True, phrasings=(spell, count))

    def check(self, item: Item, answer: str) -> bool:
        """Whether the last number in the answer is the count; or the answer has the letters, separated and in order."""
        if item.answer.isdigit():
            return re.findall(r"\d+", answer)[-1:] == [item.answer]
        # letters must be separated: repeating the word from the question is not a spelling, and must not be rewarded
        return re.findall(r"[a-z]+", answer.lower()) == list(item.answer)


def _item(rng: random.Random, word: str, held_out: bool, phrasings: tuple[tuple[str, ...], tuple[str, ...]]) -> Item:
    counting = rng.random() < COUNTING_SHARE
    phrasing = pick(rng, phrasings[counting])
    phrasing = phrasing if held_out else vary(rng, phrasing)
    if not counting:
        spelled = " ".join(word)  # a letter with a space before it is one token in most vocabularies
        return single_turn(phrasing.format(w=word), spelled, word)
    letter = pick(rng, word) if rng.random() < 0.8 else pick(rng, LETTERS)
    number = word.count(letter)
    text = f"{number} time{'s' if number != 1 else ''}."
    return single_turn(
        phrasing.format(w=word, c=letter),
        calculator_call(f'"{word}".count("{letter}")', str(number), text),
        str(number),
    )


def is_held_out(word: str) -> bool:
    """Whether a word is held out, decided by its hash."""
    return zlib.crc32(word.encode()) % HELD_OUT_EVERY == 0
