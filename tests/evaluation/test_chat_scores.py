"""The chat tasks: every score has a right answer that was worked out by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch

from nanochat.data.conversations.exam_questions import exam_records, has_exam
from nanochat.evaluation import chat_group, exams
from nanochat.evaluation.chat_core import CHAT_CORE, ChatResult, ChatScore
from nanochat.evaluation.chat_group import as_table, evaluate
from nanochat.evaluation.exams import AnswerExam, LetterExam, ProgramExam, gsm8k_exam, in_order, spelling_bee
from nanochat.evaluation.groups import Asked, choose
from nanochat.evaluation.intervals import of_accuracy
from nanochat.evaluation.letters import Letters, Question
from nanochat.evaluation.programs import pass_at_k, program_of, try_program
from nanochat.evaluation.sandbox.run import why_not
from nanochat.inference.engine import Engine
from nanochat.model import GPT
from nanochat.tasks import records
from nanochat.tasks.spelling import Spelling
from nanochat.tasks.task import Item
from nanochat.tokenizer import Tokenizer, render_prompt
from tests.inference.models import byte_tokenizer, random_gpt

SHARED = Path(__file__).parents[3] / "shared" / "data"
isolated = pytest.mark.skipif(why_not() is not None, reason=f"programs cannot be isolated here: {why_not()}")


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (SHARED / name).is_dir(), reason=f"there is no {SHARED / name}")


def ignore(done: int) -> None:
    """Nobody watches."""


# ----------------------------------------------------------------------------------------------------------- gsm8k


@needs("gsm8k")
def test_every_answer_of_gsm8k_is_right_by_itself() -> None:
    rows = exam_records("gsm8k", SHARED)
    assert len(rows) == 1319
    for row in rows:
        item = records.gsm8k(row)
        said = item.messages[-1]["content"]
        assert records.names_number(item, row["answer"])
        assert records.names_number(item, "".join(part["text"] for part in said if part["type"] == "text"))


# ----------------------------------------------------------------------------------------------------------- letters


def liking(*letters: str) -> tuple[GPT, Tokenizer]:
    """A model whose next token after ``<|assistant_start|>`` is the first of these letters, or else the second, ..."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    gpt = GPT(depth=1, vocab_size=tokenizer.vocab_size, context=400, width=64, heads=1)
    for p in gpt.parameters():
        torch.nn.init.normal_(p, std=0.01)
    for block in gpt.blocks:  # add nothing: what comes out depends on the last token alone
        torch.nn.init.zeros_(block.attention.output.weight)
        torch.nn.init.zeros_(block.mlp.contract.weight)
    with torch.no_grad():
        last = gpt.embedding.weight[tokenizer.special_tokens["<|assistant_start|>"]]
        direction = torch.nn.functional.normalize(last, dim=0)
        for place, letter in enumerate(letters):
            gpt.head.weight[ord(letter)] = direction * (10 - place) / 10
        gpt.head.weight[ord("x")] = direction * 5  # likelier than all letters, but not offered
    return gpt.requires_grad_(False), tokenizer


MMLU = [  # answers A, B, C, D, C
    {"question": f"Question {n}?", "choices": ["one", "two", "three", "four"], "answer": right}
    for n, right in enumerate([0, 1, 2, 3, 2])
]


def arc(key: str, labels: str, n: int = 0) -> dict[str, Any]:
    return {
        "question": f"Which {n}?",
        "choices": {"label": list(labels), "text": [f"choice {label}" for label in labels]},
        "answerKey": key,
    }


def test_mmlu_by_a_model_that_likes_c_best() -> None:
    gpt, tokenizer = liking("C", "A", "D", "B")
    exam = LetterExam("mmlu", MMLU, None, Letters(gpt, tokenizer), tokenizer)
    wanted = [int(item.answer == "C") for item in exam.items]
    assert exam.mark(range(5), ignore) == wanted
    assert sum(wanted) == 2
    assert ChatResult("mmlu", "letters", exam.chance, tuple(wanted)).centred == pytest.approx((0.4 - 0.25) / 0.75)


def test_only_offered_letters_are_answers() -> None:
    gpt, tokenizer = liking("E", "C", "B", "A", "D")
    letters = Letters(gpt, tokenizer)
    prompt = render_prompt(tokenizer, [{"role": "user", "content": "Which?"}])
    asked = [Question(prompt, offered) for offered in (2, 3, 4, 5, 10, 1)]
    assert letters.answers(asked) == [1, 2, 2, 4, 4, 0]


def test_arc_with_letters_with_digits_and_with_fewer_choices() -> None:
    gpt, tokenizer = liking("C", "B", "A", "D", "E")
    rows = [arc("C", "ABCD", 0), arc("3", "1234", 1), arc("4", "1234", 2), arc("B", "AB", 3), arc("E", "ABCDE", 4)]
    exam = LetterExam("arc-easy", rows, None, Letters(gpt, tokenizer), tokenizer)
    right = {
        row["question"]: row["answerKey"] in ("C", "3") or len(row["choices"]["label"]) == 2 for row in rows
    }  # C, the third, and of two choices B
    found = exam.mark(range(5), ignore)
    for item, mark in zip(exam.items, found, strict=True):
        question = str(item.question[0]["content"]).split("\n")[0]
        assert mark == right[question], question
    assert sum(found) == 3


def test_many_letters_at_once_are_as_one_alone() -> None:
    tokenizer = byte_tokenizer()
    gpt = random_gpt(vocab_size=265, context=64)
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 100, (40,), generator=generator).tolist()  # some longer than the context
    asked = [Question(torch.randint(0, 256, (n,), generator=generator).tolist(), 4) for n in lengths]
    done: list[int] = []
    alone = [Letters(gpt, tokenizer).answers([question])[0] for question in asked]
    assert Letters(gpt, tokenizer, batch_tokens=300).answers(asked, done.append) == alone
    assert sum(done) == 40
    for question, answer in zip(asked, alone, strict=True):
        logits = gpt(torch.tensor([question.ids[-64:]]))[0, -1]
        assert answer == int(torch.stack([logits[ord(letter)] for letter in "ABCD"]).argmax())
    assert len(set(alone)) > 1


def test_random_weights_are_right_as_often_as_chance() -> None:
    tokenizer = byte_tokenizer()
    gpt = random_gpt(vocab_size=265, context=128)
    rng = torch.Generator().manual_seed(0)
    golds = torch.randint(0, 4, (400,), generator=rng).tolist()
    rows = [{"question": f"{n}", "choices": list("abcd"), "answer": gold} for n, gold in enumerate(golds)]
    marks = LetterExam("mmlu", rows, None, Letters(gpt, tokenizer), tokenizer).mark(range(400), ignore)
    low, high = of_accuracy(sum(marks), 400)
    assert low < 0.25 < high


# ----------------------------------------------------------------------------------------------------------- answers


def scripted(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> None:
    """Lets each question have a given answer."""

    def say(engine: Engine, items: Sequence[Item], max_tokens: int) -> list[str]:
        return [answers[str(item.question[-1]["content"])] for item in items]

    monkeypatch.setattr(exams, "answer_all", say)


def test_gsm8k_marks_the_final_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": f"q{n}", "answer": f"so\n#### {n}"} for n in range(4)]
    scripted(monkeypatch, {"q0": "It is 0.", "q1": "#### 2", "q2": "1 + 1 = 2 #### 2", "q3": "no idea"})
    exam = gsm8k_exam(rows, None, None, 10)  # type: ignore[arg-type]
    marks = exam.mark(range(4), ignore)
    assert dict(zip((str(i.question[0]["content"]) for i in exam.items), marks, strict=True)) == {
        "q0": 1,
        "q1": 0,
        "q2": 1,
        "q3": 0,
    }


def test_marks_come_in_the_order_of_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [Item(({"role": "user", "content": "x" * (9 - n)}, {"role": "assistant", "content": ""})) for n in range(9)]
    scripted(monkeypatch, {"x" * (9 - n): str(n) for n in range(9)})
    exam = AnswerExam("a", items, lambda item, answer: int(answer) % 3 == 0, None, 5)  # type: ignore[arg-type]
    done: list[int] = []
    assert exam.mark([3, 1, 8, 6, 0], done.append) == [1, 0, 0, 1, 1]
    assert sum(done) == 5


def test_the_spelling_bee_counts_letters() -> None:
    exam = spelling_bee(Spelling(["model", "reads", "banana"]), 30, None, 10)  # type: ignore[arg-type]
    assert len(exam.items) == 30
    assert isinstance(exam, AnswerExam)
    for item in exam.items:
        assert item.answer.isdigit()
        assert exam.check(item, f"{item.answer} times.")
        assert not exam.check(item, f"{int(item.answer) + 1} times.")


# ---------------------------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize(
    ("samples", "right", "k", "value"),
    [
        (1, 0, 1, 0.0),
        (1, 1, 1, 1.0),
        (5, 2, 1, 0.4),
        (5, 2, 2, 0.7),  # 1 - C(3,2)/C(5,2) = 1 - 3/10
        (5, 2, 3, 0.9),  # 1 - 1/10
        (5, 2, 4, 1.0),
        (10, 3, 5, 1 - 21 / 252),  # C(7,5) / C(10,5)
        (4, 0, 4, 0.0),
        (200, 1, 100, 0.5),
    ],
)
def test_pass_at_k(samples: int, right: int, k: int, value: float) -> None:
    assert pass_at_k(samples, right, k) == pytest.approx(value, abs=1e-12)


PROMPT = 'import math\n\n\ndef half(x):\n    """Half of x, rounded down."""\n'
BODY = "    return math.floor(x / 2)\n"
QUESTION = {
    "prompt": PROMPT,
    "entry_point": "half",
    "test": "def check(candidate):\n    assert candidate(5) == 2\n    assert candidate(-1) == -1\n",
}


@isolated
@pytest.mark.parametrize(
    "answer",
    [
        BODY,
        f"def half(x):\n{BODY}",
        f"Sure!\n```python\ndef half(x):\n{BODY}```\nIt halves x.",
        f"```\n{BODY}```",
        f"```python\n{PROMPT}{BODY}",  # cut short before the fence
        f"First:\n```python\nhalf(3)\n```\nthen:\n```py\ndef half(x):\n{BODY}```",
        f"{BODY}\nprint(half(7))\n",
    ],
)
def test_answers_that_are_right_programs(answer: str) -> None:
    outcome = try_program(QUESTION, answer)
    assert outcome.passed, (outcome, program_of(PROMPT, "half", answer))


@isolated
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("", "failed"),
        ("    return x // 3\n", "failed"),
        ("I cannot do that.", "exception"),
        ("    return int(x / 2)\n", "failed"),
        ("    pass\nimport os\nos._exit(0)\n", "exited"),
    ],
)
def test_answers_that_are_none(answer: str, kind: str) -> None:
    assert try_program(QUESTION, answer).kind == kind


class Scripted(ProgramExam):
    """Answers the same to each question: right, wrong, wrong, right ... as often as samples are wanted."""

    def _answers(self, chosen: Sequence[int]) -> list[list[str]]:
        kinds = {0: (BODY, BODY), 1: ("    return 0\n", BODY), 2: ("", "    return None\n")}
        return [list(kinds[self.rows[i]["number"]]) for i in chosen]


@isolated
def test_humaneval_by_hand() -> None:
    rows = [{**QUESTION, "number": n} for n in range(3)]
    exam = Scripted("humaneval", rows, None, None, 2, 10)  # type: ignore[arg-type]
    done: list[int] = []
    marks = exam.mark(range(3), done.append)
    assert {row["number"]: mark for row, mark in zip(exam.rows, marks, strict=True)} == {0: 2, 1: 1, 2: 0}
    assert sum(done) == 3
    result = ChatResult("humaneval", "programs", 0.0, tuple(marks), 2)
    assert result.accuracy == result.pass_at(1) == pytest.approx(0.5)
    assert result.pass_at(2) == pytest.approx(2 / 3)
    assert result.facts()["pass@1"] == pytest.approx(0.5)


@isolated
@needs("humaneval")
def test_some_of_humanevals_own_solutions_are_right() -> None:
    rows = exam_records("humaneval", SHARED)
    assert len(rows) == 164
    for row in [*rows[:4], rows[38]]:
        assert try_program(row, row["canonical_solution"]).passed
        assert not try_program(row, "    return None\n").passed


# ---------------------------------------------------------------------------------------------------------- ChatCORE


def of(name: str, right: int, items: int) -> ChatResult:
    chance = 0.25 if name in CHAT_CORE[:3] else 0.0
    return ChatResult(name, "letters", chance, (1,) * right + (0,) * (items - right))


SIX = [
    of("arc-easy", 3, 4),  # (0.75 - 0.25) / 0.75 = 2/3
    of("arc-challenge", 1, 4),  # 0
    of("mmlu", 0, 4),  # -1/3
    of("gsm8k", 1, 2),
    of("humaneval", 1, 4),
    of("spelling-bee", 3, 3),
]


def test_chatcore_by_hand() -> None:
    score = ChatScore([*SIX, of("arithmetic", 9, 9)])
    assert score.value == pytest.approx((2 / 3 + 0 - 1 / 3 + 1 / 2 + 1 / 4 + 1) / 6)
    assert score.label == "ChatCORE"
    assert score.interval is not None
    assert score.interval.low < score.value < score.interval.high
    assert "It is not ChatCORE" not in as_table(score)
    assert "beside it" in as_table(score)


def test_it_is_not_called_chatcore_if_it_is_not() -> None:
    score = ChatScore(SIX[3:])
    assert score.value == pytest.approx((1 / 2 + 1 / 4 + 1) / 3)
    assert score.label == "ChatCORE over 3 of its 6 tasks"
    assert "It is not ChatCORE: arc-easy, arc-challenge, mmlu are missing." in as_table(score)
    assert ChatScore(SIX, 100).label == "ChatCORE, 100 items of each at most"
    beside = ChatScore([of("arithmetic", 1, 2)])
    assert beside.value is None
    assert beside.interval is None
    assert "ChatCORE" not in as_table(beside)


def test_a_result_goes_through_its_json() -> None:
    result = ChatResult("humaneval", "programs", 0.0, (2, 0, 1), 2, 1, 3.25)
    assert ChatResult.from_facts("humaneval", json.loads(json.dumps(result.facts()))) == result


# ------------------------------------------------------------------------------------------------- files, and all of it


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(map(json.dumps, rows)) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


GSM8K = [{"question": f"What is {n} + 1?", "answer": f"<<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"} for n in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    write_lines(data / "gsm8k" / "test.jsonl", GSM8K)
    write_lines(data / "gsm8k" / "train.jsonl", GSM8K * 2)
    write_lines(data / "humaneval" / "HumanEval.jsonl.gz", [QUESTION] * 3)
    (data / "mmlu").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(MMLU), data / "mmlu" / "test-00000-of-00001.parquet")
    write_lines(data / "ARC_Easy" / "ARC-Easy" / "test.jsonl", [arc("C", "ABCD", n) for n in range(4)])
    return data


def test_records_from_a_folder(folder: Path) -> None:
    assert exam_records("gsm8k", folder) == GSM8K
    assert len(exam_records("humaneval", folder)) == 3
    assert list(exam_records("mmlu", folder)) == MMLU
    assert len(exam_records("arc-easy", folder)) == 4
    assert not has_exam("arc-challenge", folder)
    with pytest.raises(ValueError, match="has no arc-challenge: put its files .* into"):
        exam_records("arc-challenge", folder)
    with pytest.raises(ValueError, match="there is no such folder"):
        exam_records("gsm8k", folder / "nowhere")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"question": "q"}\n', "line 1 has no answer"),
        (b'{"question": "q", "answer": "#### 1"}\n{"ques', "line 2 is not JSON"),
        (b"[1]\n", "line 1 has no question, answer"),
        (b"\xff\n", "line 1 is not JSON in UTF-8"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        exam_records("gsm8k", tmp_path)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "humaneval" / "a.jsonl.gz", [QUESTION])
    path = tmp_path / "humaneval" / "a.jsonl.gz"
    for content in (path.read_bytes()[:-12], b"no archive"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged"):
            exam_records("humaneval", tmp_path)


def test_a_record_of_another_form_is_shown() -> None:
    with pytest.raises(ValueError, match="gsm8k has a record that is not of its form"):
        gsm8k_exam([{"question": "q", "answer": "no number"}], None, None, 5)  # type: ignore[arg-type]
    gpt, tokenizer = liking("A")
    with pytest.raises(ValueError, match="arc-easy has a record"):
        LetterExam("arc-easy", [arc("Z", "ABCD")], None, Letters(gpt, tokenizer), tokenizer)


def test_a_few_items_are_always_the_same_ones() -> None:
    rows = [{"n": n} for n in range(10)]
    assert in_order("mmlu", rows, 4) == in_order("mmlu", rows, None)[:4] != rows[:4]
    assert sorted(row["n"] for row in in_order("mmlu", rows, None)) == list(range(10))
    assert len(in_order("mmlu", rows, 99)) == 10


def asking(tmp_path: Path, model: tuple[GPT, Tokenizer], said: list[str], *tasks: str, **options: Any) -> Asked:
    checkpoint = tmp_path / "runs" / "version_0" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_bytes(b"weights")
    return Asked(*model, checkpoint, tasks, None, options, said.append)


@pytest.fixture
def few_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the offline tasks only one, and that a small one."""
    monkeypatch.setattr(chat_group, "OFFLINE", ())
    monkeypatch.setattr(chat_group, "_task", lambda name: Spelling(["model"]))
    monkeypatch.setattr(chat_group, "MAX_TOKENS", 4)
    monkeypatch.setattr(chat_group, "WORKED", 4)
    monkeypatch.setattr(chat_group, "PROGRAM", 4)


@pytest.mark.usefixtures("few_offline")
def test_all_of_it_from_a_folder(tmp_path: Path, folder: Path) -> None:
    said: list[str] = []
    model = liking("C", "A", "B", "D")
    asked = asking(tmp_path, model, said, data=str(folder))
    report = evaluate(asked)
    assert report.facts["name"] == "ChatCORE over 4 of its 6 tasks"
    tasks = report.facts["tasks"]
    assert {name: facts["items"] for name, facts in tasks.items() if name != "spelling-bee"} == {
        "arc-easy": 4,
        "mmlu": 5,
        "gsm8k": 5,
    }
    # it says "x" for ever: C is right in all of ARC's and in 2 of 5 of MMLU's, and nothing else
    assert [tasks[n]["accuracy"] for n in ("arc-easy", "mmlu", "gsm8k", "spelling-bee")] == [1.0, 0.4, 0.0, 0.0]
    assert report.facts["value"] == pytest.approx((1 + 0.2 + 0 + 0) / 4)
    assert any(line.startswith("humaneval is left out: it runs programs") for line in said)
    assert any(line.startswith("arc-challenge is left out: there are no files") for line in said)
    written = json.loads((tmp_path / "runs" / "version_0" / "evaluation.json").read_text())["evaluations"]
    assert written[0]["group"] == "chat"
    assert written[0]["value"] == report.facts["value"]
    said.clear()
    again = evaluate(asked)
    assert again.facts["tasks"] == tasks
    assert "4 of 4 tasks are finished already" in said[-1]


@isolated
@pytest.mark.usefixtures("few_offline")
def test_programs_are_run_only_if_that_is_allowed(tmp_path: Path, folder: Path) -> None:
    said: list[str] = []
    model = liking("C")
    with pytest.raises(ValueError, match="humaneval: .*--allow_code_execution"):
        evaluate(asking(tmp_path, model, said, "humaneval", data=str(folder)))
    allowed = asking(tmp_path, model, said, "humaneval", data=str(folder), allow_code_execution=True, samples=2)
    report = evaluate(allowed)
    assert report.facts["tasks"]["humaneval"]["right"] == [0, 0, 0]
    assert "pass@1 0.0%, of 2 samples each" in report.text


@pytest.mark.usefixtures("few_offline")
def test_where_programs_cannot_be_isolated_the_reason_is_said(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanochat.evaluation.sandbox import run

    monkeypatch.setattr(run, "why_not", lambda: "no namespaces")
    with pytest.raises(ValueError, match="could not be isolated: no namespaces"):
        evaluate(asking(tmp_path, liking("C"), [], "humaneval", data=str(folder), allow_code_execution=True))


def test_groups_and_names() -> None:
    assert choose("chat") == {"chat": ()}
    assert choose("gsm8k,mmlu") == {"chat": ("gsm8k", "mmlu")}
    assert choose("core,spelling-bee") == {"core": (), "chat": ("spelling-bee",)}
    with pytest.raises(ValueError, match="did you mean humaneval"):
        choose("human-eval")


def test_the_help_says_why_programs_are_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    from nanochat.cli import main

    assert main(["evaluate", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--allow_code_execution" in text
    assert "runs programs that the model wrote" in text
    assert "no isolation is perfect" in text
