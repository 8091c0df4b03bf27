"""Shared by the tests of nanochat.exchange: texts of many kinds, tokenizers, and models with random weights."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from nanochat.model import GPT, GPTConfig
from nanochat.tokenizer import Tokenizer
from tests.conftest import sentences

CODE = "def f(x):\n\treturn [x ** 2 for x in range(10)]  # it's 3.14, isn't it?\n\n    if a != b and c[i] <= 0x1F:\n"
WHITESPACE = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
CONTRACTIONS = "'s 'S 't 'LL 'll 'Ll 've 'VE 're 'rE 'd 'D 'm '\u017f \u2019s 'x '".split(
    " "
)  # a long s, a curly quote
EMOJI = "😀👩\u200d👩\u200d👧🇩🇪✊🏽\u2764\ufe0f①²½Ⅷ٣४"


def tokenizers() -> dict[str, Tokenizer]:
    """Tokenizers trained on English, code and repetitions, one of single bytes, and one with unused ids."""
    repetitive = [("a" * n + " " * n + "ab" * n + "\n" * n + "=" * n) for n in range(1, 70)]
    return {
        "english": Tokenizer.train(sentences(200), 400),
        "code": Tokenizer.train([CODE * 3 + "".join(CONTRACTIONS) + EMOJI + WHITESPACE] * 3, 600),
        "repetitive": Tokenizer.train(repetitive, 330),
        "bytes": Tokenizer.train(["text"], 265),
        "unused ids": Tokenizer.train(["aaaa bbbb"], 1000),
    }


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of kinds that are difficult for a tokenizer; deterministic for a seed."""
    rng = random.Random(seed)
    code_points = [*range(0xD800), *range(0xE000, 0x110000)]  # all of Unicode but the surrogates

    def any_unicode() -> str:
        return "".join(map(chr, rng.choices(code_points, k=rng.randint(0, 40))))

    def low_unicode() -> str:
        return "".join(chr(rng.randrange(0x3000)) for _ in range(rng.randint(1, 40)))

    def repetition() -> str:
        return "".join(rng.choice("ab \n='1") * rng.randint(1, 40) for _ in range(rng.randint(1, 5)))

    def few_letters() -> str:
        return "".join(rng.choices("aab ", k=rng.randint(1, 200)))

    def long_word() -> str:
        return "".join(rng.choices(rng.choice(["ab", "aaab", "=-", "  \n"]), k=rng.randint(1, 1200)))

    def whitespace() -> str:
        return "".join(rng.choices([*WHITESPACE, " ", " ", "\n", "a", "."], k=rng.randint(1, 30)))

    def digits() -> str:
        return "".join(rng.choices("0123456789٣४½ .,-", k=rng.randint(1, 30)))

    def contractions() -> str:
        return "".join(rng.choice(["it", "IT", "we", "", " "]) + rng.choice(CONTRACTIONS) for _ in range(8))

    def code() -> str:
        start = rng.randrange(len(CODE))
        return (CODE[start:] + CODE)[: rng.randint(1, 120)]

    def emoji() -> str:
        return "".join(rng.choices([*EMOJI, " ", "a", "1"], k=rng.randint(1, 20)))

    def control() -> str:
        return "".join(chr(rng.choice([*range(32), *range(127, 160), 65])) for _ in range(rng.randint(1, 30)))

    def english() -> str:
        return " ".join(sentences(1, rng.randrange(1000)))

    kinds: list[Callable[[], str]] = [any_unicode, low_unicode, repetition, few_letters, long_word, whitespace, digits]
    kinds += [contractions, code, emoji, control, english, lambda: code() + any_unicode() + whitespace() + english()]
    return [kinds[i % len(kinds)]() for i in range(count)]


def random_model(vocab_size: int = 400, seed: int = 0, **sizes: int) -> GPT:
    """A model with random weights everywhere; a fresh one has matrices of zeros."""
    torch.manual_seed(seed)
    gpt = GPT(GPTConfig.from_options(vocab_size=vocab_size, **{"depth": 2, "width": 128, "context": 96, **sizes}))
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=1.5 * parameter.size(-1) ** -0.5)
    return gpt
