"""Synthetic tasks: reproducible items, disjoint training and held-out questions, and checks of answers."""

from __future__ import annotations

from typing import Any

import pytest

from nanochat.inference.calculator import calculate
from nanochat.tasks import arithmetic, identity, phrasings
from nanochat.tasks.common_functions import FUNCTIONS
from nanochat.tasks.documentation import DocumentationQuestions, documentation, functions
from nanochat.tasks.task import Task, permuted_index, single_turn
from nanochat.tokenizer import Tokenizer, render
from tests.tasks.samples import DOCUMENTS, all_tasks

TASKS = {task.name: task for task in all_tasks()}


def question(item: Any) -> str:
    return str(item.question[0]["content"])


def answer_text(item: Any) -> str:
    """The text that the assistant writes, without calculator calls."""
    content = item.messages[-1]["content"]
    return content if isinstance(content, str) else "".join(p["text"] for p in content if p["type"] == "text")


@pytest.mark.parametrize("name", TASKS)
def test_items_are_reproducible(name: str) -> None:
    other = {task.name: task for task in all_tasks()}[name]
    task = TASKS[name]
    assert [task.item(3, i) for i in (5, 900, 7)] == [other.item(3, i) for i in (5, 900, 7)]
    assert [task.item(3, i) for i in range(40)] != [task.item(4, i) for i in range(40)]


@pytest.mark.parametrize("name", TASKS)
def test_held_out_questions_are_not_in_training(name: str) -> None:
    task = TASKS[name]
    train = {question(task.item(seed, i)) for seed in range(3) for i in range(3000)}
    held_out = {question(task.held_out(i)) for i in range(min(300, task.held_out_count))}
    assert not train & held_out
    assert len(held_out) > 1


@pytest.mark.parametrize("name", TASKS)
def test_check_accepts_only_the_correct_answer(name: str) -> None:
    task = TASKS[name]
    items = [task.held_out(i) for i in range(min(200, task.held_out_count))]
    assert all(task.check(item, answer_text(item)) for item in items)
    assert all(task.check(item, f"\n {answer_text(item)}  ") for item in items)
    assert not any(task.check(item, "") for item in items)
    wrong = [task.check(item, answer_text(other)) for item in items for other in items if item.answer != other.answer]
    assert wrong
    assert not any(wrong)


@pytest.mark.parametrize("name", TASKS)
def test_items_can_be_rendered(name: str) -> None:
    tokenizer = Tokenizer.train(["text"], 265)
    for i in range(50):
        _, mask = render(tokenizer, TASKS[name].item(0, i).messages)
        assert any(mask)


@pytest.mark.parametrize("name", ["arithmetic", "spelling"])
def test_calculator_calls_have_the_correct_result(name: str) -> None:
    task = TASKS[name]
    calls = 0
    for item in [*(task.item(1, i) for i in range(500)), *(task.held_out(i) for i in range(500))]:
        content: Any = item.messages[-1]["content"]
        if isinstance(content, list):
            call, output, text = (part["text"] for part in content)
            assert calculate(call) == output == item.answer
            assert output in text
            calls += 1
    assert calls > 300


def test_arithmetic_holds_out_problems() -> None:
    def calls(items: list[Any]) -> set[str]:
        return {item.messages[-1]["content"][0]["text"] for item in items}

    task = TASKS["arithmetic"]
    train = calls([task.item(0, i) for i in range(5000)])
    assert not train & calls([task.held_out(i) for i in range(1000)])
    assert {next(o for o in "*/+-" if o in call) for call in train} == set("+-*/")


def test_spelling_holds_out_words() -> None:
    task = TASKS["spelling"]
    items = [task.item(0, i) for i in range(3000)]
    words = {item.answer for item in items if not item.answer.isdigit()}
    assert "model" in words
    assert "strawberry" not in words
    held_out = {item.answer for item in (task.held_out(i) for i in range(300)) if not item.answer.isdigit()}
    assert "strawberry" in held_out
    assert not words & held_out
    invented = [word for word in words if word not in ("model", "reads", "text", "learns")]
    assert len(invented) > 100


def test_spelling_requires_separated_letters() -> None:
    task, item = TASKS["spelling"], single_turn("Spell banana.", "b a n a n a", "banana")
    assert all(task.check(item, answer) for answer in ("b a n a n a", "B-A-N-A-N-A.", "b\na\nn\na\nn\na"))
    assert not any(task.check(item, answer) for answer in ("banana", "ba na na", "b a n a n", "b a n n a a", "6"))


def test_training_and_held_out_phrasings_are_disjoint() -> None:
    pairs = [
        *((p.train, p.held_out) for p in (phrasings.SUMMARY, phrasings.ARGUMENTS, phrasings.EXAMPLE)),
        (phrasings.IDENTIFY.train, phrasings.IDENTIFY.held_out),
        *((s.train, s.held_out) for s in identity.SUBJECTS.values()),
        *((arithmetic.TRAIN[kind], arithmetic.HELD_OUT[kind]) for kind in arithmetic.TRAIN),
        *((p.train, p.held_out) for p in (phrasings.SPELL, phrasings.COUNT)),
    ]
    for train, held_out in pairs:
        assert train
        assert held_out
        assert not set(train) & set(held_out)


def entries(task: Task) -> dict[str, tuple[str, ...]]:
    assert isinstance(task, DocumentationQuestions)
    return {entry.name: entry[1:] for entry in task.entries}


def test_entries_of_common_functions() -> None:
    assert entries(functions(DOCUMENTS)) == {
        "abs": ("Return the absolute value of the argument.", "abs(x)", ""),
        "len": ("Return the number of items in a container.", "len(obj)", ""),
        "max": ("With a single iterable, return its biggest item.", "", ""),
        "zip": ("Yield tuples until an input is exhausted.", "", ">>> zip()"),
        "dict.keys": ("A set-like object providing a view on D's keys.", "", ""),
        "os.path.join": ("Join two or more pathname components.", "os.path.join(a, *p)", ""),
        "random.choice": ("Choose a random element from a non-empty sequence.", "random.choice(seq)", ""),
        "textwrap.dedent": (
            "Remove any common leading whitespace from every line in text.",
            "textwrap.dedent(text)",
            "",
        ),
    }


def test_entries_of_other_documents() -> None:
    assert entries(documentation(DOCUMENTS)) == {
        "random.Random": ("Random number generator base class used by bound module functions.", "", ""),
        "sympy.solve": ("Algebraically solves equations.", "sympy.solve(f, *symbols)", ">>> solve(x - 1)\n[1]"),
        "numpy.sort": ("Return a sorted copy of an array, e.g. of a list.", "numpy.sort(a, axis=-1)", ""),
    }


def test_identify_questions_contain_the_summary() -> None:
    task = DocumentationQuestions("functions", functions(DOCUMENTS).entries, {"identify": 1.0})
    for i in range(30):
        item = task.item(0, i)
        summary = next(e.summary for e in task.entries if e.name == item.answer)
        assert summary in question(item)


def test_no_documentation() -> None:
    with pytest.raises(ValueError, match="no documentation"):
        functions([])


def test_common_functions() -> None:
    assert 290 <= len(FUNCTIONS) <= 340
    assert {"len", "str.split", "textwrap.dedent", "json.loads", "os.path.join"} <= set(FUNCTIONS)


@pytest.mark.parametrize("count", [1, 2, 7, 64, 330])
def test_permuted_index_is_a_permutation_per_epoch(count: int) -> None:
    order = [permuted_index(5, index, count, "x") for index in range(3 * count)]
    for epoch in range(3):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == [(element, epoch) for element in range(count)]
