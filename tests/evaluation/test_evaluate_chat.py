"""The chat tasks: scores compared with values computed by hand."""

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
from nanochat.evaluation import chat_evals, evaluate_chat
from nanochat.evaluation.chat_core import CHATCORE_TASKS, ChatScore, ChatTaskScore
from nanochat.evaluation.chat_evals import (
    GenerativeEval,
    MultipleChoiceEval,
    ProgramEval,
    gsm8k_eval,
    sample_records,
    spelling_bee_eval,
)
from nanochat.evaluation.confidence_intervals import wilson_interval
from nanochat.evaluation.evaluate_chat import evaluate, score_table
from nanochat.evaluation.groups import EvaluationRequest, parse_tasks
from nanochat.evaluation.humaneval import build_program, pass_at_k, run_answer
from nanochat.evaluation.multiple_choice import MultipleChoice, Question
from nanochat.evaluation.sandbox.run import missing_isolation
from nanochat.inference.engine import Engine
from nanochat.model import GPT, GPTConfig
from nanochat.tasks import records
from nanochat.tasks.spelling import Spelling
from nanochat.tasks.task import Item
from nanochat.tokenizer import Tokenizer, render_prompt
from tests.inference.models import byte_tokenizer, random_gpt

SHARED = Path(__file__).parents[3] / "shared" / "data"
isolated = pytest.mark.skipif(
    missing_isolation() is not None, reason=f"programs cannot be isolated here: {missing_isolation()}"
)


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (SHARED / name).is_dir(), reason=f"there is no {SHARED / name}")


def ignore(done: int) -> None:
    """Ignores the progress."""


# ----------------------------------------------------------------------------------------------------------- gsm8k


@needs("gsm8k")
def test_reference_answers_of_gsm8k_are_right() -> None:
    rows = exam_records("gsm8k", SHARED)
    assert len(rows) == 1319
    for row in rows:
        item = records.gsm8k(row)
        content = item.messages[-1]["content"]
        assert records.check_number(item, row["answer"])
        assert records.check_number(item, "".join(part["text"] for part in content if part["type"] == "text"))


# ----------------------------------------------------------------------------------------------------------- letters


def model_preferring(*letters: str) -> tuple[GPT, Tokenizer]:
    """A model that prefers these letters after ``<|assistant_start|>``, the first one most."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    gpt = GPT(GPTConfig.from_options(depth=1, vocab_size=tokenizer.vocab_size, context=400, width=64, heads=1))
    for p in gpt.parameters():
        torch.nn.init.normal_(p, std=0.01)
    for block in gpt.blocks:  # the blocks add nothing, so the output depends on the last token only
        torch.nn.init.zeros_(block.attn.c_proj.weight)
        torch.nn.init.zeros_(block.mlp.c_proj.weight)
    with torch.no_grad():
        last = gpt.wte.weight[tokenizer.special_tokens["<|assistant_start|>"]]
        direction = torch.nn.functional.normalize(last, dim=0)
        for rank, letter in enumerate(letters):
            gpt.lm_head.weight[ord(letter)] = direction * (10 - rank) / 10
        gpt.lm_head.weight[ord("x")] = direction * 5  # more likely than all letters, but not offered
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


def test_mmlu() -> None:
    gpt, tokenizer = model_preferring("C", "A", "D", "B")
    chat_eval = MultipleChoiceEval("mmlu", MMLU, None, MultipleChoice(gpt, tokenizer), tokenizer)
    wanted = [int(item.answer == "C") for item in chat_eval.items]
    assert chat_eval.count_right(range(5), ignore) == wanted
    assert sum(wanted) == 2
    assert ChatTaskScore("mmlu", "letters", chat_eval.chance, tuple(wanted)).centred == pytest.approx(
        (0.4 - 0.25) / 0.75
    )


def test_only_offered_letters_are_answers() -> None:
    gpt, tokenizer = model_preferring("E", "C", "B", "A", "D")
    letters = MultipleChoice(gpt, tokenizer)
    prompt = render_prompt(tokenizer, [{"role": "user", "content": "Which?"}])
    questions = [Question(prompt, offered) for offered in (2, 3, 4, 5, 10, 1)]
    assert letters.answers(questions) == [1, 2, 2, 4, 4, 0]


def test_arc_labels_and_numbers_of_choices() -> None:
    gpt, tokenizer = model_preferring("C", "B", "A", "D", "E")
    rows = [arc("C", "ABCD", 0), arc("3", "1234", 1), arc("4", "1234", 2), arc("B", "AB", 3), arc("E", "ABCDE", 4)]
    chat_eval = MultipleChoiceEval("arc-easy", rows, None, MultipleChoice(gpt, tokenizer), tokenizer)
    right = {
        row["question"]: row["answerKey"] in ("C", "3") or len(row["choices"]["label"]) == 2 for row in rows
    }  # the third choice, or B of two choices
    found = chat_eval.count_right(range(5), ignore)
    for item, count in zip(chat_eval.items, found, strict=True):
        question = str(item.question[0]["content"]).split("\n")[0]
        assert count == right[question], question
    assert sum(found) == 3


@pytest.mark.parametrize("counted", [0, 2])
def test_batched_letters_equal_single_ones(counted: int) -> None:
    tokenizer = byte_tokenizer()
    gpt = random_gpt(vocab_size=265, context=64)
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 100, (40,), generator=generator).tolist()  # some longer than the context
    questions = [Question(torch.randint(0, 256, (n,), generator=generator).tolist(), 4) for n in lengths]
    done: list[int] = []
    alone = [MultipleChoice(gpt, tokenizer).answers([question])[0] for question in questions]
    assert MultipleChoice(gpt, tokenizer, batch_tokens=300).answers(questions, done.append) == alone
    assert sum(done) == 40
    for question, answer in zip(questions, alone, strict=True):
        logits = gpt(torch.tensor([question.ids[-64:]]))[0, -1]
        assert answer == int(torch.stack([logits[ord(letter)] for letter in "ABCD"]).argmax())
    assert len(set(alone)) > 1


def test_random_weights_score_at_chance() -> None:
    tokenizer = byte_tokenizer()
    gpt = random_gpt(vocab_size=265, context=128)
    rng = torch.Generator().manual_seed(0)
    golds = torch.randint(0, 4, (400,), generator=rng).tolist()
    rows = [{"question": f"{n}", "choices": list("abcd"), "answer": gold} for n, gold in enumerate(golds)]
    counts = MultipleChoiceEval("mmlu", rows, None, MultipleChoice(gpt, tokenizer), tokenizer).count_right(
        range(400), ignore
    )
    low, high = wilson_interval(sum(counts), 400)
    assert low < 0.25 < high


# ----------------------------------------------------------------------------------------------------------- answers


def scripted(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> None:
    """Replaces generation: each question gets the given answer."""

    def generate(engine: Engine, items: Sequence[Item], max_tokens: int) -> list[str]:
        return [answers[str(item.question[-1]["content"])] for item in items]

    monkeypatch.setattr(chat_evals, "generate_answers", generate)


def test_gsm8k_compares_the_final_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": f"q{n}", "answer": f"so\n#### {n}"} for n in range(4)]
    scripted(monkeypatch, {"q0": "It is 0.", "q1": "#### 2", "q2": "1 + 1 = 2 #### 2", "q3": "no idea"})
    chat_eval = gsm8k_eval(rows, None, None, 10)  # type: ignore[arg-type]
    counts = chat_eval.count_right(range(4), ignore)
    assert dict(zip((str(i.question[0]["content"]) for i in chat_eval.items), counts, strict=True)) == {
        "q0": 1,
        "q1": 0,
        "q2": 1,
        "q3": 0,
    }


def test_counts_are_in_the_order_of_the_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [Item(({"role": "user", "content": "x" * (9 - n)}, {"role": "assistant", "content": ""})) for n in range(9)]
    scripted(monkeypatch, {"x" * (9 - n): str(n) for n in range(9)})
    chat_eval = GenerativeEval("a", items, lambda item, answer: int(answer) % 3 == 0, None, 5)  # type: ignore[arg-type]
    done: list[int] = []
    assert chat_eval.count_right([3, 1, 8, 6, 0], done.append) == [1, 0, 0, 1, 1]
    assert sum(done) == 5


def test_spelling_bee_counts_letters() -> None:
    chat_eval = spelling_bee_eval(Spelling(["model", "reads", "banana"]), 30, None, 10)  # type: ignore[arg-type]
    assert len(chat_eval.items) == 30
    assert isinstance(chat_eval, GenerativeEval)
    for item in chat_eval.items:
        assert item.answer.isdigit()
        assert chat_eval.check(item, f"{item.answer} times.")
        assert not chat_eval.check(item, f"{int(item.answer) + 1} times.")


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
        f"```python\n{PROMPT}{BODY}",  # truncated before the closing fence
        f"First:\n```python\nhalf(3)\n```\nthen:\n```py\ndef half(x):\n{BODY}```",
        f"{BODY}\nprint(half(7))\n",
    ],
)
def test_right_answers_pass(answer: str) -> None:
    outcome = run_answer(QUESTION, answer)
    assert outcome.passed, (outcome, build_program(PROMPT, "half", answer))


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
def test_wrong_answers_fail(answer: str, kind: str) -> None:
    assert run_answer(QUESTION, answer).kind == kind


class Scripted(ProgramEval):
    """Returns fixed samples: two right ones for question 0, one for question 1, none for question 2."""

    def _generate(self, indices: Sequence[int]) -> list[list[str]]:
        kinds = {0: (BODY, BODY), 1: ("    return 0\n", BODY), 2: ("", "    return None\n")}
        return [list(kinds[self.rows[i]["number"]]) for i in indices]


@isolated
def test_humaneval_with_two_samples() -> None:
    rows = [{**QUESTION, "number": n} for n in range(3)]
    chat_eval = Scripted("humaneval", rows, None, None, 2, 10)  # type: ignore[arg-type]
    done: list[int] = []
    counts = chat_eval.count_right(range(3), done.append)
    assert {row["number"]: count for row, count in zip(chat_eval.rows, counts, strict=True)} == {0: 2, 1: 1, 2: 0}
    assert sum(done) == 3
    result = ChatTaskScore("humaneval", "programs", 0.0, tuple(counts), 2)
    assert result.accuracy == result.pass_at(1) == pytest.approx(0.5)
    assert result.pass_at(2) == pytest.approx(2 / 3)
    assert result.to_dict()["pass@1"] == pytest.approx(0.5)


@isolated
@needs("humaneval")
def test_reference_solutions_of_humaneval_pass() -> None:
    rows = exam_records("humaneval", SHARED)
    assert len(rows) == 164
    for row in [*rows[:4], rows[38]]:
        assert run_answer(row, row["canonical_solution"]).passed
        assert not run_answer(row, "    return None\n").passed


# ---------------------------------------------------------------------------------------------------------- ChatCORE


def make_score(name: str, right: int, items: int) -> ChatTaskScore:
    chance = 0.25 if name in CHATCORE_TASKS[:3] else 0.0
    return ChatTaskScore(name, "letters", chance, (1,) * right + (0,) * (items - right))


SIX = [
    make_score("arc-easy", 3, 4),  # (0.75 - 0.25) / 0.75 = 2/3
    make_score("arc-challenge", 1, 4),  # 0
    make_score("mmlu", 0, 4),  # -1/3
    make_score("gsm8k", 1, 2),
    make_score("humaneval", 1, 4),
    make_score("spelling-bee", 3, 3),
]


def test_chatcore_is_the_mean_of_six_tasks() -> None:
    score = ChatScore([*SIX, make_score("arithmetic", 9, 9)])
    assert score.value == pytest.approx((2 / 3 + 0 - 1 / 3 + 1 / 2 + 1 / 4 + 1) / 6)
    assert score.label == "ChatCORE"
    assert score.interval is not None
    assert score.interval.low < score.value < score.interval.high
    assert "This is not ChatCORE" not in score_table(score)
    assert "excluded" in score_table(score)


def test_label_names_missing_tasks() -> None:
    score = ChatScore(SIX[3:])
    assert score.value == pytest.approx((1 / 2 + 1 / 4 + 1) / 3)
    assert score.label == "ChatCORE over 3 of its 6 tasks"
    assert "Missing: arc-easy, arc-challenge, mmlu" in " ".join(score_table(score).split())
    assert ChatScore(SIX, 100).label == "ChatCORE, 100 items of each at most"
    excluded = ChatScore([make_score("arithmetic", 1, 2)])
    assert excluded.value is None
    assert excluded.interval is None
    assert "ChatCORE" not in score_table(excluded)


def test_score_survives_json() -> None:
    result = ChatTaskScore("humaneval", "programs", 0.0, (2, 0, 1), 2, 1, 3.25)
    assert ChatTaskScore.from_dict("humaneval", json.loads(json.dumps(result.to_dict()))) == result


# ------------------------------------------------------------------------------------------------ files and evaluate


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
def test_invalid_files_are_reported(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        exam_records("gsm8k", tmp_path)


def test_damaged_archive_is_reported(tmp_path: Path) -> None:
    write_lines(tmp_path / "humaneval" / "a.jsonl.gz", [QUESTION])
    path = tmp_path / "humaneval" / "a.jsonl.gz"
    for content in (path.read_bytes()[:-12], b"no archive"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged"):
            exam_records("humaneval", tmp_path)


def test_invalid_records_are_shown() -> None:
    with pytest.raises(ValueError, match="gsm8k has an invalid record"):
        gsm8k_eval([{"question": "q", "answer": "no number"}], None, None, 5)  # type: ignore[arg-type]
    gpt, tokenizer = model_preferring("A")
    with pytest.raises(ValueError, match="arc-easy has an invalid record"):
        MultipleChoiceEval("arc-easy", [arc("Z", "ABCD")], None, MultipleChoice(gpt, tokenizer), tokenizer)


def test_sample_records_is_deterministic() -> None:
    rows = [{"n": n} for n in range(10)]
    assert sample_records("mmlu", rows, 4) == sample_records("mmlu", rows, None)[:4] != rows[:4]
    assert sorted(row["n"] for row in sample_records("mmlu", rows, None)) == list(range(10))
    assert len(sample_records("mmlu", rows, 99)) == 10


def make_request(
    tmp_path: Path, model: tuple[GPT, Tokenizer], printed: list[str], *tasks: str, **options: Any
) -> EvaluationRequest:
    checkpoint = tmp_path / "runs" / "version_0" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_bytes(b"weights")
    return EvaluationRequest(*model, checkpoint, tasks, None, options, printed.append)


@pytest.fixture
def few_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the offline tasks by a small one and limits the answers to 4 tokens."""
    monkeypatch.setattr(evaluate_chat, "OFFLINE_TASKS", ())
    monkeypatch.setattr(evaluate_chat, "_open_task", lambda name: Spelling(["model"]))
    monkeypatch.setattr(evaluate_chat, "MAX_TOKENS", 4)
    monkeypatch.setattr(evaluate_chat, "GSM8K_MAX_TOKENS", 4)
    monkeypatch.setattr(evaluate_chat, "HUMANEVAL_MAX_TOKENS", 4)


@pytest.mark.usefixtures("few_offline")
def test_evaluate_from_a_folder(tmp_path: Path, folder: Path) -> None:
    printed: list[str] = []
    model = model_preferring("C", "A", "B", "D")
    request = make_request(tmp_path, model, printed, data=str(folder))
    report = evaluate(request)
    assert report.results["name"] == "ChatCORE over 4 of its 6 tasks"
    tasks = report.results["tasks"]
    assert {name: facts["items"] for name, facts in tasks.items() if name != "spelling-bee"} == {
        "arc-easy": 4,
        "mmlu": 5,
        "gsm8k": 5,
    }
    # the model generates only "x"; C is right in all questions of ARC and in 2 of 5 of MMLU
    assert [tasks[n]["accuracy"] for n in ("arc-easy", "mmlu", "gsm8k", "spelling-bee")] == [1.0, 0.4, 0.0, 0.0]
    assert report.results["value"] == pytest.approx((1 + 0.2 + 0 + 0) / 4)
    assert any(line.startswith("humaneval is skipped: it runs programs") for line in printed)
    assert any(line.startswith("arc-challenge is skipped: there are no files") for line in printed)
    written = json.loads((tmp_path / "runs" / "version_0" / "evaluation.json").read_text())["evaluations"]
    assert written[0]["group"] == "chat"
    assert written[0]["value"] == report.results["value"]
    printed.clear()
    again = evaluate(request)
    assert again.results["tasks"] == tasks
    assert "4 of 4 tasks are already scored" in printed[-1]


@isolated
@pytest.mark.usefixtures("few_offline")
def test_code_execution_must_be_allowed(tmp_path: Path, folder: Path) -> None:
    printed: list[str] = []
    model = model_preferring("C")
    with pytest.raises(ValueError, match="humaneval: .*--allow_code_execution"):
        evaluate(make_request(tmp_path, model, printed, "humaneval", data=str(folder)))
    allowed = make_request(
        tmp_path, model, printed, "humaneval", data=str(folder), allow_code_execution=True, samples=2
    )
    report = evaluate(allowed)
    assert report.results["tasks"]["humaneval"]["right"] == [0, 0, 0]
    assert "pass@1 0.0%, of 2 samples each" in report.text


@pytest.mark.usefixtures("few_offline")
def test_missing_isolation_is_reported(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nanochat.evaluation.sandbox import run

    monkeypatch.setattr(run, "missing_isolation", lambda: "no namespaces")
    with pytest.raises(ValueError, match="cannot be isolated here and are not run: no namespaces"):
        evaluate(
            make_request(tmp_path, model_preferring("C"), [], "humaneval", data=str(folder), allow_code_execution=True)
        )


def test_parse_tasks() -> None:
    assert parse_tasks("chat") == {"chat": ()}
    assert parse_tasks("gsm8k,mmlu") == {"chat": ("gsm8k", "mmlu")}
    assert parse_tasks("core,spelling-bee") == {"core": (), "chat": ("spelling-bee",)}
    with pytest.raises(ValueError, match="did you mean humaneval"):
        parse_tasks("human-eval")


def test_help_explains_code_execution(capsys: pytest.CaptureFixture[str]) -> None:
    from nanochat.cli import main

    assert main(["evaluate", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--allow_code_execution" in text
    assert "runs programs that the model wrote" in text
    assert "no isolation is perfect" in text
