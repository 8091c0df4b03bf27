"""The prompts of CORE questions, compared with texts written out by hand."""

from __future__ import annotations

import random
from pathlib import Path

from nanochat.evaluation.bundle import CHOICE, LANGUAGE, SCHEMA, open_bundle
from nanochat.evaluation.prompts import Candidate, common, example_indices, prompts, question, render, truncate
from tests.evaluation.models import CORE, choice, language, letters, needs_core, schema, write_bundle

ANSWER = "\nAnswer: "


def test_multiple_choice() -> None:
    line = choice("Question: What is warm?", ["ice", "fire"], 1)
    example = choice("Question: What is wet?", ["sand", "water", "salt"], 1)
    assert render(CHOICE, line, [], ANSWER) == [
        "Question: What is warm?\nAnswer: ice",
        "Question: What is warm?\nAnswer: fire",
    ]
    assert render(CHOICE, line, [example, example], " ") == [
        "Question: What is wet? water\n\nQuestion: What is wet? water\n\nQuestion: What is warm? ice",
        "Question: What is wet? water\n\nQuestion: What is wet? water\n\nQuestion: What is warm? fire",
    ]


def test_schema() -> None:
    line = schema(["The cat sat because the cat", "The cat sat because the mat"], "was tired.", 0)
    example = schema(["A", "B"], "ends.", 1)
    assert render(SCHEMA, line, [example], " ") == [
        "B ends.\n\nThe cat sat because the cat was tired.",
        "B ends.\n\nThe cat sat because the mat was tired.",
    ]


def test_language_modelling_trims_the_context() -> None:
    line, example = language("  The capital of France is \n", "Paris"), language("\tOne and one is", "two")
    assert render(LANGUAGE, line, [example], " ") == [
        "One and one is two\n\nThe capital of France is",
        "One and one is two\n\nThe capital of France is Paris",
    ]
    assert render(LANGUAGE, line, [], ANSWER) == [
        "The capital of France is\nAnswer:",
        "The capital of France is\nAnswer: Paris",
    ]


def test_a_multiple_choice_query_is_not_trimmed() -> None:
    assert render(CHOICE, choice("Answer: ", ["A", "B"], 0), [], " ") == ["Answer:  A", "Answer:  B"]


def test_choices_are_scored_from_their_first_difference() -> None:
    tokenizer = letters()
    found = question(CHOICE, ["x: the dog", "x: the door"], 1, tokenizer, 100)
    assert found.gold == 1
    assert not found.reproduce
    assert [tokenizer.decode(candidate.end) for candidate in found.candidates] == ["g", "or"]
    assert all(candidate.ids[0] == tokenizer.bos for candidate in found.candidates)


def test_a_prefix_choice_is_scored_by_its_last_token() -> None:
    tokenizer = letters()
    found = question(CHOICE, ["x: do", "x: door"], 0, tokenizer, 100)
    assert [tokenizer.decode(candidate.end) for candidate in found.candidates] == ["o", "oor"]


def test_schemas_are_scored_by_their_common_suffix() -> None:
    tokenizer = letters()
    found = question(SCHEMA, ["a cat is here", "a dog is here"], 0, tokenizer, 100)
    assert [tokenizer.decode(candidate.end) for candidate in found.candidates] == [" is here", " is here"]
    found = question(SCHEMA, ["the bus is here", "a gas is here"], 0, tokenizer, 100)
    assert [(tokenizer.decode(c.end), c.start) for c in found.candidates] == [("s is here", 7), ("s is here", 5)]


def test_language_modelling_scores_the_continuation() -> None:
    tokenizer = letters()
    found = question(LANGUAGE, ["one is", "one is two"], 0, tokenizer, 100)
    assert found.reproduce
    assert [tokenizer.decode(candidate.end) for candidate in found.candidates] == [" two"]


def test_truncate_keeps_the_last_tokens() -> None:
    assert truncate([9, 1, 2, 3, 4], 3, 5) == Candidate([9, 1, 2, 3, 4], 3)
    assert truncate([9, 1, 2, 3, 4], 3, 4) == Candidate([1, 2, 3, 4], 2)
    assert truncate([9, 1, 2, 3, 4], 3, 2) == Candidate([3, 4], 1)  # one token must remain before the scored ones
    assert common([1, 2, 3], [1, 2, 4], [1, 2]) == 2
    assert common([1], [2]) == 0


def test_examples_are_drawn_from_the_other_lines() -> None:
    for index in (0, 3, 19):
        others = [number for number in range(20) if number != index]
        assert example_indices(index, 20, 10) == random.Random(1234 + index).sample(others, 10)
    assert sorted(example_indices(1, 3, 10)) == [0, 2]  # fewer lines than requested examples


def test_lines_are_shuffled_before_examples_are_drawn(tmp_path: Path) -> None:
    lines = [language(f"q{number}", f"a{number}") for number in range(12)]
    (task,) = open_bundle(write_bundle(tmp_path, {"squad": (LANGUAGE, lines)}, shots=2)).tasks
    order = list(range(12))
    random.Random(1337).shuffle(order)
    assert [line["context"] for line in task.lines] == [f"q{number}" for number in order]
    first, second = (order[other] for other in random.Random(1234).sample(range(1, 12), 2))
    here = order[0]
    assert prompts(task, 0)[1] == f"q{first} a{first}\n\nq{second} a{second}\n\nq{here} a{here}"


@needs_core
def test_prompts_of_the_published_bundle() -> None:
    tasks = {task.name: task for task in open_bundle(CORE).tasks}
    copa = tasks["copa"]
    index = next(i for i, line in enumerate(copa.lines) if line["query"] == "The man turned on the faucet, therefore")
    assert prompts(copa, index) == [
        "The man turned on the faucet, therefore the toilet filled with water.",
        "The man turned on the faucet, therefore water flowed from the spout.",
    ]
    without, whole = prompts(tasks["jeopardy"], 0)
    line = tasks["jeopardy"].lines[0]
    assert without.endswith(f"\n\n{line['context']}\nAnswer:")
    assert whole == f"{without} {line['continuation']}"
    assert whole.count("\nAnswer: ") == 11
