"""How questions are asked: many ways to learn from, and others that are used for scoring only.

``{x}`` is the name of what is asked about, ``{s}`` a summary.
"""

from __future__ import annotations

from typing import NamedTuple


class Phrasings(NamedTuple):
    """Ways to ask the same thing, those to learn from and those held out."""

    learned: tuple[str, ...]
    held_out: tuple[str, ...]


SUMMARY = Phrasings(
    (
        "What does {x} do?",
        "What does {x} do?",  # the plainest way, twice as often
        "what does {x} do",
        "What is {x}?",
        "what is {x}",
        "What is {x} for?",
        "What is {x} used for?",
        "What can I use {x} for?",
        "Explain {x}.",
        "explain {x}",
        "Explain what {x} does.",
        "Please explain {x} to me.",
        "Can you explain {x}?",
        "Describe {x}.",
        "Describe what {x} is for.",
        "Tell me about {x}.",
        "Tell me what {x} does.",
        "Can you tell me what {x} does?",
        "Summarize {x}.",
        "Give me a summary of {x}.",
        "In Python, what does {x} do?",
        "What does the function {x} do?",
        "What does {x} do in Python?",
        "I found {x} in a program. What does it do?",
        "What happens when I call {x}?",
        "Why would I use {x}?",
        "When should I use {x}?",
        "What do you know about {x}?",
        "How does {x} work?",
        "help {x}",
        "help({x})",
        "{x}",
        "{x}?",
        "{x}: what is it?",
        "Hi, what is {x}?",
        "I need to know what {x} does.",
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

WHICH = Phrasings(
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

SIGNATURE_OF_NONE = "{x} takes no arguments."

# What programs that speak to an assistant like to say first.
SYSTEM = (
    "You are a helpful assistant.",
    "You are nanochat, a helpful assistant.",
    "Answer in one sentence.",
    "Be brief.",
    "You are an expert in Python.",
    "You answer questions about Python.",
)
