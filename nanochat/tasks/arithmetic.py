"""Arithmetic: the assistant writes an expression, and the calculator computes it."""

from __future__ import annotations

import random
import re
import zlib

from nanochat.tasks.phrasings import GIVE, LEADS, indirect, pick, vary
from nanochat.tasks.task import Item, Task, calculator_call, seeded_rng, single_turn

HELD_OUT_EVERY = 16  # one problem in 16 is held out, with all its phrasings
HELD_OUT_ITEMS = 1000

# Phrasings with numbers {a} and {b} and operator {o}: those for any operator (""), then those for a single one.
TRAIN = {
    "": (
        *("What is {a} {o} {b}?", "{a} {o} {b}", "{a}{o}{b}", "{a} {o} {b} = ?") * 4,
        "What is {a}{o}{b}?",
        "{a}{o}{b}=",
        "{a}{o}{b}=?",
        "Calculate {a} {o} {b}.",
        "Compute {a}{o}{b}",
        "How much is {a} {o} {b}?",
        "Please work out {a} {o} {b}.",
        "What do you get for {a} {o} {b}?",
        "Can you compute {a} {o} {b}?",
        "Evaluate {a}{o}{b}.",
        "What does {a} {o} {b} come to?",
        "Reckon {a} {o} {b}.",
        *indirect(LEADS, ("what {a} {o} {b} is", "how much {a}{o}{b} is", "what {a} {o} {b} comes to"))[1:],
        *indirect(GIVE, ("the value of {a} {o} {b}", "the answer to {a}{o}{b}", "{a} {o} {b}")),
    ),
    "+": (
        "What is {a} plus {b}?",
        "{a} plus {b}",
        "Add {a} and {b}.",
        "Add {a} to {b}.",
        "If I have {a} and get {b}, how many do I have?",
        "If {a} people are here and {b} come, how many are we?",
        "{a} plus {b} equals what?",
        "{a} plus {b} equals",
        "Sum up {a} and {b}.",
        "What is the sum of {a} and {b}?",
        "What is the total of {a} and {b}?",
        "How much is {a} plus {b}?",
        "What do {a} and {b} make together?",
        "I have {a} apples and get {b} more. How many do I have?",
        "There are {a} birds, and {b} come. How many are there now?",
        *indirect(GIVE, ("the sum of {a} and {b}", "{a} plus {b}")),
        *indirect(LEADS, ("what {a} plus {b} is", "how much {a} and {b} make")),
    ),
    "-": (
        "What is {a} minus {b}?",
        "{a} minus {b}",
        "Take {b} away from {a}.",
        "Subtract {b} from {a}.",
        "If I have {a} and lose {b}, how many remain?",
        "If {b} of {a} people go home, how many stay?",
        "If I take {b} from {a}, how much is it?",
        "{a} minus {b} equals what?",
        "{a} minus {b} equals",
        "Reduce {a} by {b}.",
        "What is the difference between {a} and {b}?",
        "How much is {a} minus {b}?",
        "How much is {a} less {b}?",
        "I had {a} coins and spent {b}. How many are left?",
        "There were {a} birds, and {b} flew away. How many are there now?",
        *indirect(GIVE, ("the difference between {a} and {b}", "{a} minus {b}")),
        *indirect(LEADS, ("what {a} minus {b} is", "how much {a} without {b} is")),
    ),
    "*": (
        "What is {a} times {b}?",
        "{a} times {b}",
        "{a} x {b}",
        "Multiply {a} by {b}.",
        "If I buy {b} books for {a} each, what do I pay?",
        "If I have {a} boxes of {b} pens, how many pens are there?",
        "{a} times {b} equals what?",
        "{a} times {b} equals",
        "Multiply {a} and {b}.",
        "What is the product of {a} and {b}?",
        "How much is {a} times {b}?",
        "What is {a} multiplied by {b}?",
        "What is {a} x {b}?",
        "{a} boxes hold {b} eggs each. How many eggs are there?",
        "A ticket costs {a}. What do {b} tickets cost?",
        *indirect(GIVE, ("the product of {a} and {b}", "{a} multiplied by {b}"))[1:],
        *indirect(LEADS, ("what {a} times {b} is", "how much {a} multiplied by {b} is")),
    ),
    "/": (
        "What is {a} divided by {b}?",
        "{a} divided by {b}",
        "Divide {a} by {b}.",
        "If {b} people share {a} coins, what does each get?",
        "If I cut {a} into {b} parts, how large is each?",
        "{a} divided by {b} equals what?",
        "{a} divided by {b} equals",
        "How much is {a} divided by {b}?",
        "What is the quotient of {a} and {b}?",
        "How many times does {b} go into {a}?",
        "{a} sweets are shared by {b} children. How many does each get?",
        "Share {a} among {b}.",
        *indirect(GIVE, ("the quotient of {a} and {b}", "{a} divided by {b}")),
        *indirect(LEADS, ("what {a} divided by {b} is", "how much {a} divided by {b} is")),
    ),
}
HELD_OUT = {
    "": (
        "Tell me what {a} {o} {b} is.",
        "Solve {a} {o} {b}",
        "Do you happen to know {a}{o}{b}?",
        "The result of {a} {o} {b}?",
    ),
    "+": ("If I add {a} and {b}, what is the total?", "{a} plus {b} makes what?"),
    "-": ("What remains of {a} minus {b}?", "If I subtract {b} from {a}, what is left?"),
    "*": ("What comes out of {a} multiplied by {b}?", "Give me {a} times {b}."),
    "/": ("What comes out of {a} divided by {b}?", "If I divide {a} by {b}, what do I get?"),
}


class Arithmetic(Task):
    """One operation on two whole numbers. Problems are held out; half of them are asked in held-out phrasings."""

    name = "arithmetic"

    def item(self, seed: int, index: int) -> Item:
        return _item(seeded_rng(self.name, seed, index), held_out=False, phrasings=TRAIN)

    @property
    def held_out_count(self) -> int:
        return HELD_OUT_ITEMS

    def held_out(self, index: int) -> Item:
        rng = seeded_rng(self.name, "held out", index)
        return _item(rng, held_out=True, phrasings=HELD_OUT if index % 2 else TRAIN)

    def check(self, item: Item, answer: str) -> bool:
        """Whether the last number in the answer is the result."""
        numbers = re.findall(r"-?\d+(?:\.\d+)?", answer.replace(",", ""))
        return bool(numbers) and numbers[-1] == item.answer


def _item(rng: random.Random, held_out: bool, phrasings: dict[str, tuple[str, ...]]) -> Item:
    while True:
        a, operator, b = _problem(rng)
        if is_held_out(a, operator, b) == held_out:
            break
    phrasing = pick(rng, phrasings[""] if rng.random() < 0.6 else phrasings[operator])
    question = (phrasing if held_out else vary(rng, phrasing)).format(a=a, b=b, o=operator)
    result = {"+": a + b, "-": a - b, "*": a * b, "/": a // (b or 1)}[operator]  # divisions have no remainder
    return single_turn(question, calculator_call(f"{a}{operator}{b}", str(result), f"It is {result}."), str(result))


def _problem(rng: random.Random) -> tuple[int, str, int]:
    operator = pick(rng, "+-*/")
    a, b = (_number(rng) for _ in range(2))
    if operator == "/":
        b = max(b % 100, 2)
        a = b * (a % 1000 + 1)
    return a, operator, b


def _number(rng: random.Random) -> int:
    """A number of one to five digits; short numbers are more frequent."""
    return rng.randrange(10 ** rng.choices((1, 2, 3, 4, 5), (2, 4, 3, 2, 1))[0])


def is_held_out(a: int, operator: str, b: int) -> bool:
    """Whether a problem is held out: decided by its hash, independent of its phrasing."""
    return zlib.crc32(f"{a}{operator}{b}".encode()) % HELD_OUT_EVERY == 0
