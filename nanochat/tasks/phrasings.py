"""Phrasings of questions: many for training, and others that are held out for evaluation.

The training phrasings are combined from lists of beginnings and clauses, so that there are hundreds: a small model that
was trained on few phrasings of a question does not recognise others. Placeholders: ``{x}`` the name of a function,
``{s}`` a summary, ``{w}`` a word, ``{c}`` a letter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

LEADS = (  # beginnings of an indirect question: "Tell me" + "what len does"
    *("Tell me", "Can you tell me", "Please tell me", "Do you know", "I want to know", "I need to know", "I wonder"),
    *("Let me know", "Explain", "Can you explain", "Please explain", "Say", "Can you say", "I would like to know"),
    *("I forgot", "I am not sure", "Help me understand", "Show me", "Teach me", "I have to find out"),
)
GIVE = (  # beginnings of a request for a thing: "Give me" + "the letters of len"
    *("Give me", "Tell me", "Can you give me", "Show me", "I need", "Find", "I want", "Please give me", "What is"),
    *("Do you know", "I am looking for", "Write down", "Name", "Let me see", "I would like to have"),
)


class Phrasings(NamedTuple):
    """Phrasings of one question, for training and held out."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def indirect(leads: Sequence[str], clauses: Sequence[str]) -> tuple[str, ...]:
    """Each lead combined with each clause; with a question mark if the lead is a question, else a full stop."""
    asks = ("Can", "Do", "Could", "Would", "What", "Which", "How")
    return tuple(f"{lead} {clause}{'?' if lead.startswith(asks) else '.'}" for lead in leads for clause in clauses)


def vary(rng: random.Random, question: str) -> str:
    """A random variation: words before or after the question, without its final mark, or with a lower-case initial."""
    chance = rng.random()
    if chance < 0.08:
        question = pick(rng, BEFORE) + question
    elif chance < 0.14:
        question += pick(rng, AFTER)
    elif chance < 0.24:
        question = question.rstrip(".?")
    if rng.random() < 0.15:
        question = question[:1].lower() + question[1:]
    return question


BEFORE = (
    *("Hi, ", "Hello, ", "Hey, ", "OK, ", "So, ", "Now, ", "And ", "Then ", "Well, ", "Quick question: ", "Question: "),
    *("Next: ", "Tell me: ", "I wonder: ", "Another question. ", "One more thing. ", "Good. ", "Thanks. ", "Yes. "),
)
AFTER = (" Please.", " Thanks.", " Thank you.", " Be brief.", " I need it.", " Do you know?", " In short.", " please")


def pick(rng: random.Random, options: Sequence[str]) -> str:
    """One of the options, chosen uniformly."""
    return options[rng.randrange(len(options))]


# Replacements of {x}; in most questions it is the name alone.
NAMES = ("{x}()", "`{x}`", "the function {x}", "the {x} function", "Python's {x}", "{x} in Python", "this: {x}")

SUMMARY = Phrasings(
    (
        *("What does {x} do?",) * 24,  # the plainest phrasings are the most frequent
        *("What is {x}?",) * 12,
        *("{x}", "{x}?", "Explain {x}.", "Describe {x}.", "help {x}", "help({x})", "What is {x} for?") * 3,
        "What is {x} used for?",
        "What can I use {x} for?",
        "What can I do with {x}?",
        "Explain what {x} does.",
        "Please explain {x} to me.",
        "Can you explain {x}?",
        "Describe what {x} is for.",
        "Tell me about {x}.",
        "Say something about {x}.",
        "Summarize {x}.",
        "Give me a summary of {x}.",
        "Give the summary of {x}.",
        "A summary of {x}, please.",
        "In Python, what does {x} do?",
        "What does calling {x} do?",
        "I found {x} in a program. What does it do?",
        "I see {x} here. What does that do?",
        "I have never used {x}. What is it?",
        "There is {x} in this code. What is that?",
        "My program calls {x}. What for?",
        "A friend uses {x}. What is it for?",
        "I read about {x}. What does it do?",
        "What happens when I call {x}?",
        "What happens if I call {x}?",
        "Why would I use {x}?",
        "Why do people use {x}?",
        "When should I use {x}?",
        "When do I need {x}?",
        "What do you know about {x}?",
        "What should I know about {x}?",
        "What do the docs say about {x}?",
        "What does the documentation say about {x}?",
        "How does {x} work?",
        "{x}: what is it?",
        "{x}, what does it do?",
        "{x} does what?",
        "Define {x}.",
        "Definition of {x}",
        "Look up {x}.",
        "Documentation of {x}",
        "What is meant by {x}?",
        "What is the use of {x}?",
        "What is the meaning of {x}?",
        "What is the effect of {x}?",
        "Which task does {x} solve?",
        "What would {x} do?",
        "What will {x} do?",
        "What did {x} do again?",
        "Is {x} useful? What for?",
        "Do I need {x}? What does it do?",
        "In one line, what is {x}?",
        *indirect(
            LEADS,
            (
                "what {x} does",
                "what {x} is",
                "what {x} is for",
                "what {x} is used for",
                "how {x} works",
                "why people use {x}",
                "what one can do with {x}",
            ),
        ),
    ),
    (
        "Could you say in one sentence what {x} is good for?",
        "What is the purpose of {x}?",
        "Remind me what {x} does, please.",
        "I do not understand {x}. What is it there for?",
        "Which job does {x} have?",
        "Give a short description of {x}.",
        "Someone mentioned {x}, what's that?",
        "What would a call of {x} do for me?",
    ),
)

ARGUMENTS = Phrasings(
    (
        "What are the arguments of {x}?",
        "Which arguments does {x} take?",
        "What arguments does {x} take?",
        "arguments of {x}",
        "How do I call {x}?",
        "What is the signature of {x}?",
        "Show me the signature of {x}.",
        "What parameters does {x} have?",
        "Which parameters does {x} accept?",
        "How is {x} called?",
    ),
    ("What do I pass to {x}?", "List the arguments of {x}.", "With which parameters is {x} called?"),
)

EXAMPLE = Phrasings(
    (
        "Show an example of {x}.",
        "Show me an example of {x}.",
        "Give me an example of {x}.",
        "Can you give an example of {x}?",
        "example of {x}",
        "How do I use {x}?",
        "How is {x} used?",
        "Please show how to use {x}.",
    ),
    ("Demonstrate {x}.", "I would like to see {x} in use.", "Write a line of code with {x}."),
)

IDENTIFY = Phrasings(
    (
        'Which function does this: "{s}"',
        "Which function does this? {s}",
        'What is described by "{s}"?',
        'What is this: "{s}"',
        "Which function has this summary? {s}",
        "I look for a function. {s}",
        "I need a function: {s}",
        "Find the function: {s}",
    ),
    ('Name the function: "{s}"', "What should I call? {s}", "Is there a function for this? {s}"),
)

SPELL = Phrasings(
    (
        *("How do you spell {w}?", "Spell {w}.", 'Spell "{w}".') * 3,
        'How do you spell "{w}"?',
        "Spell the word {w}.",
        'Spell the word "{w}".',
        "Please spell {w}.",
        "Can you spell {w}?",
        "Can you spell the word {w} for me?",
        "I cannot spell {w}.",
        "How is {w} spelled?",
        "How is the word {w} written?",
        "How do I write {w}?",
        "Spell {w} letter by letter.",
        "Say {w} letter by letter.",
        "Give me {w} one letter at a time.",
        "Go through {w} letter by letter.",
        "What are the letters of {w}?",
        "What are the letters in the word {w}?",
        "Split {w} into letters.",
        "Take {w} apart into its letters.",
        "Break the word {w} into letters.",
        "{w}, letter by letter",
        "{w}: how is it spelled?",
        "{w} spelled out",
        "Now spell {w}.",
        "Try to spell {w}.",
        *indirect(
            ("What letters", "Which letters"),
            (
                *("does {w} have", "does the word {w} have", "does {w} consist of", "do I need for {w}", "make up {w}"),
                *("are there in {w}", "does one need to write {w}", "come in the word {w}", "form the word {w}"),
            ),
        ),
        *indirect(
            ("Write", "Write out", "Write down", "Please write"),
            ("{w} one letter at a time", "{w} as single letters", "the letters of {w}", "each letter of the word {w}"),
        ),
        *indirect(
            ("I want you to", "I'd like you to", "Would you", "Could you", "You should"),
            ("spell {w}", "spell out {w}", "say how {w} is spelled"),
        ),
        *indirect(LEADS, ("how to spell {w}", "how {w} is spelled", "how the word {w} is written")),
        *indirect(GIVE, ("the spelling of {w}", "the letters of {w}", "the letters in the word {w}")),
    ),
    (
        "I would like you to spell {w}.",
        "Write {w} letter by letter.",
        "Which letters are in the word {w}?",
        "How would you spell {w}?",
        "Say the letters of {w} one by one.",
    ),
)

COUNT = Phrasings(
    (
        *("How many {c} in {w}?", "How many {c} are in {w}?", "How many {c}'s are in {w}?") * 6,
        "How many {c} are there in {w}?",
        'How many "{c}" are in "{w}"?',
        "How many {c}s are in {w}?",
        "How many {c}s in {w}?",
        "How many times does {w} contain {c}?",
        *indirect(
            ("How often", "How many times"),
            (
                *("does {c} appear in {w}", "is {c} in the word {w}", "do you see {c} in {w}", "does {w} show {c}"),
                *("does the letter {c} come in {w}", "is the letter {c} in {w}", "must I type {c} in {w}"),
                *("does one read {c} in {w}", "do we write the letter {c} in {w}", "do I need {c} to write {w}"),
            ),
        ),
        "Count the {c} in {w}.",
        "Count the letter {c} in the word {w}.",
        'Count the letter "{c}" in "{w}".',
        "Count how often {c} is in {w}.",
        "Count {c} in {w}",
        "How many letters {c} does {w} have?",
        "How many {c} does the word {w} have?",
        "How many {c} does {w} contain?",
        "How many of the letters of {w} are {c}?",
        "How many of the letter {c} are in {w}?",
        "Of the letter {c}, how many has {w}?",
        "In the word {w}, how many {c} are there?",
        "In the word {w}, how often does {c} come?",
        "In {w}, how many {c} are there?",
        "In {w}, how often is {c}?",
        "In {w}, count the {c}.",
        "In {w} there are how many {c}?",
        "In the word {w}, how many {c} do you see?",
        "Within {w}, how many {c} can one count?",
        "For {w}, count the letter {c}.",
        "For the word {w}, how many {c} do you get?",
        "Of {w}, how many letters are {c}?",
        "Take {w}: how many {c} does it have?",
        "{w} has how many {c}?",
        "{w} contains how many {c}?",
        "Does {w} have {c}, and how many?",
        "Does the word {w} contain {c}? How many times?",
        "When I write {w}, how many {c} do I need?",
        "If I spell {w}, how many {c} do I say?",
        "Look at {w}. How many {c} are in it?",
        "The word is {w}. How many {c} does it have?",
        "{w}: how many {c}?",
        "{c} in {w}: how many?",
        "Is {c} in {w}, and how many times?",
        *indirect(
            LEADS,
            (
                "how many {c} are in {w}",
                "how many {c} {w} has",
                "how often {c} comes in {w}",
                "how many times {c} appears in {w}",
                "how many letters {c} there are in the word {w}",
            ),
        ),
        *indirect(
            GIVE, ("the count of {c} in {w}", "the number of letters {c} in {w}", "the number of times {c} is in {w}")
        ),
    ),
    (
        "Tell me how many {c} the word {w} has.",
        "What is the number of {c} in {w}?",
        "In {w}, how many {c} do you find?",
        "How often do I write {c} in {w}?",
        "How many occurrences of {c} are in {w}?",
        "Can you count the {c} in {w}?",
    ),
)

SIGNATURE_OF_NONE = "{x} takes no arguments."

# System messages that programs commonly send.
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are nanochat, a helpful assistant.",
    "Answer in one sentence.",
    "Be brief.",
    "You are an expert in Python.",
    "You answer questions about Python.",
)
