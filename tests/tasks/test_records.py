"""Records of public datasets converted into conversations."""

from __future__ import annotations

from typing import Any

import pytest

from nanochat.tasks import records
from nanochat.tasks.records import Records, split_held_out


def test_gsm8k() -> None:
    record = {
        "question": "Weng earns $12 an hour. She worked 50 minutes.",
        "answer": "She earns 12/60 = $<<12/60=0.2>>0.2 a minute.\nSo 0.2 x 50 = $<<0.2*50=10>>10.\n#### 1,010",
    }
    item = records.gsm8k(record)
    content: Any = item.messages[-1]["content"]
    assert [(part["type"], part["text"]) for part in content] == [
        ("text", "She earns 12/60 = $"),
        ("python", "12/60"),
        ("python_output", "0.2"),
        ("text", "0.2 a minute.\nSo 0.2 x 50 = $"),
        ("python", "0.2*50"),
        ("python_output", "10"),
        ("text", "10.\nIt is 1010."),
    ]
    assert records.check_number(item, "... It is 1,010.")
    assert not records.check_number(item, "1010 or 12")
    assert not records.check_number(item, "no idea")


@pytest.mark.parametrize(
    ("convert", "record"),
    [
        (records.mmlu, {"question": "Which?", "choices": ["x", "y", "z"], "answer": 1}),
        (records.mmlu, {"train": {"question": "Which?", "choices": ["x", "y", "z"], "answer": 1}}),
        (
            records.arc,
            {"question": "Which?", "choices": {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "answerKey": "2"},
        ),
        (
            records.arc,
            {"question": "Which?", "choices": {"text": ["x", "y", "z"], "label": list("ABC")}, "answerKey": "B"},
        ),
    ],
)
def test_multiple_choice(convert: Any, record: dict[str, Any]) -> None:
    item = convert(record)
    assert item.question[0]["content"] == "Which?\nA. x\nB. y\nC. z\nAnswer with the letter."
    assert item.messages[-1]["content"] == item.answer == "B"
    assert records.check_letter(item, " B. y")
    assert not records.check_letter(item, "A or B")
    assert not records.check_letter(item, "Because")


def test_unanswered_messages_are_removed() -> None:
    messages = [{"role": role, "content": role} for role in ("system", "user", "assistant", "user")]
    assert records.conversation({"messages": messages}).messages == tuple(messages[:3])


def test_split_held_out() -> None:
    for count in (1, 2, 100, 1000):
        rows = [{"messages": [i]} for i in range(count)]
        train, held_out = split_held_out(rows)
        assert sorted(r["messages"][0] for r in [*train, *held_out]) == list(range(count))
        assert len(held_out) == (0 if count == 1 else max(1, count // 64))


def test_no_training_records() -> None:
    with pytest.raises(ValueError, match="no conversations"):
        Records("mine", [], [], records.conversation)
