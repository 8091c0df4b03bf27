"""Scores that were worked out by hand, and that nothing but the model and the question decides about them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from nanochat.evaluation.bundle import CHOICE, LANGUAGE, SCHEMA, open_bundle
from nanochat.evaluation.core import score_core, score_task
from nanochat.evaluation.prefix_tree import Tree, hidden, pays
from nanochat.evaluation.prompts import Candidate, Question, question, questions
from nanochat.evaluation.scoring import CLOSE, Judge, is_close, is_right
from nanochat.model import GPT
from nanochat.tokenizer import Tokenizer
from tests.evaluation.models import (
    CORE,
    bigrams,
    choice,
    language,
    letters,
    needs_core,
    random_model,
    schema,
    write_bundle,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_each_kind_scores_what_it_must(tmp_path: Path) -> None:
    """The model expects b after a, and d or e after c; else it knows nothing."""
    gpt = bigrams({"a": "b", "c": "de"})
    tasks = {
        "piqa": (
            CHOICE,
            [
                choice("x", ["ab", "ac"], 0),  # right: b after a
                choice("x", ["ac", "ab"], 0),  # wrong
                choice("x", ["cd", "cx"], 0),  # right
                choice("x", ["xyx", "cd"], 1),  # right: d after c makes its mean the lower one
                choice("x", ["ab", "abxxxxxxxxxxxxxx"], 1),  # wrong: b is expected, the many x are not
            ],
        ),
        "winograd": (
            SCHEMA,
            [
                schema(["xa", "xc"], "b", 0),  # right, with no delimiter: b after a
                schema(["xa", "xc"], "b", 1),  # wrong
                schema(["xa", "xc"], "exx", 1),  # right
            ],
        ),
        "squad": (
            LANGUAGE,
            [
                language("xa", "b"),  # right
                language("xc", "d"),  # d and e are equally likely: the first of them is the likeliest
                language("xc", "e"),  # wrong
                language("xa", "bx"),  # wrong: after b nothing is known
            ],
        ),
    }
    bundle = open_bundle(write_bundle(tmp_path, tasks, delimiter="", baselines={"piqa": 50, "winograd": 50}))
    score = score_core(Judge(gpt), letters(), bundle)
    assert [(task.name, task.right, task.items) for task in score.tasks] == [
        ("piqa", 3, 5),
        ("winograd", 2, 3),
        ("squad", 2, 4),
    ]
    assert [task.centred for task in score.tasks] == pytest.approx([0.2, 1 / 3, 0.5])
    assert score.value == pytest.approx((0.2 + 1 / 3 + 0.5) / 3)


def test_losses_are_those_of_the_formula() -> None:
    """Logits of 8 for what is expected and 0 for the other 264 tokens."""
    gpt = bigrams({"a": "b"})
    tokenizer = letters()
    capped = 15 * math.tanh(8 / 15)
    expected, other = (math.log(math.exp(capped) + 264) - logit for logit in (capped, 0.0))
    (found,) = Judge(gpt).judge([Candidate([tokenizer.bos, *tokenizer.encode("xabax")], 2)])
    assert found.total == pytest.approx(math.log(265) + expected + math.log(265) + other, rel=1e-5)
    assert found.loss == pytest.approx(found.total / 4)
    assert not found.reproduced


def test_the_likeliest_of_equal_choices_is_the_first() -> None:
    judge = Judge(bigrams({}))
    same = [question(CHOICE, ["xab", "xcd"], gold, letters(), 100) for gold in (0, 1)]
    assert judge.answers(same) == [True, False]


def some_questions(tokenizer: Tokenizer, context: int) -> list[Question]:
    """Questions of all kinds: choices with and without a common prefix, short ones, and some beyond the context."""
    found = []
    for number in range(12):
        before = "a text that all choices begin with, and the longer the more work it saves " * (number % 4)
        texts = [f"{before}{number} {word * (1 + number % 3)}" for word in ("one", "two", "three", "fourteen")]
        found.append(question(CHOICE, texts, number % 4, tokenizer, context))
        contexts = [f"{number} {word} {before} and it is so" for word in ("he", "she")]
        found.append(question(SCHEMA, contexts, number % 2, tokenizer, context))
        found.append(question(LANGUAGE, [before + "x", before + "x is y"], 0, tokenizer, context))
    return found


@pytest.mark.parametrize("kv_heads", [None, 1])
def test_batched_answers_equal_single_ones(kv_heads: int | None) -> None:
    gpt = random_model(1, kv_heads=kv_heads, context=128)
    asked = some_questions(letters(), gpt.context)
    alone = [Judge(gpt, batch_tokens=1, share=False).answers([one])[0] for one in asked]
    for judge in (Judge(gpt), Judge(gpt, share=False), Judge(gpt, 700), Judge(gpt, 300)):
        assert judge.answers(asked) == alone
        assert judge.answers(asked[::-1]) == alone[::-1]
    assert 0 < sum(alone) < len(alone)


def test_verdict_is_the_models_loss() -> None:
    gpt = random_model(1)
    (asked,) = [question(CHOICE, ["tell me: abc", "tell me: abdul", "tell me: x"], 0, letters(), gpt.context)]
    for candidate, verdict in zip(asked.candidates, Judge(gpt).judge(asked.candidates), strict=True):
        ids = torch.tensor([candidate.ids])
        with torch.inference_mode():
            losses = gpt.losses(ids[:, :-1], ids[:, 1:])[0, candidate.start - 1 :]
        assert verdict.loss == pytest.approx(float(losses.mean()), abs=1e-4)


def test_prefix_tree_equals_the_model() -> None:
    for kv_heads in (None, 1):
        gpt = random_model(2, kv_heads=kv_heads)
        trees = [
            Tree([[1, 2, 3, 4, 5], [1, 2, 3, 9], [1, 2, 3, 9, 9, 9]], 3),
            Tree([[7, 8, 9, 1, 1], [7, 8]], 1),
            Tree([[5, 6, 5, 6, 5, 6, 5, 6, 5, 6], [5, 6, 5, 6, 5, 6, 5, 6, 5, 7]], 9),
        ]
        with torch.inference_mode():
            found = hidden(gpt, trees)
            for row, tree in enumerate(trees):
                for number, text in enumerate(tree.texts):
                    places = [tree.row_index(number, position) for position in range(len(text))]
                    expected = gpt.hidden(torch.tensor([text]))[0]
                    torch.testing.assert_close(found[row, places], expected, rtol=1e-4, atol=1e-5)


def test_prefix_sharing_is_used_where_it_pays() -> None:
    beginning = list(range(100))
    assert pays([[*beginning, n] for n in range(4)], 100, 256)
    assert not pays([[1, *range(n, n + 100)] for n in range(4)], 1, 256)
    judge, one = Judge(random_model(0)), question(CHOICE, ["x" * 99 + c for c in "abcd"], 0, letters(), 200)
    sizes = []
    plain, judge._plain = judge._plain, lambda batch: sizes.append(len(batch)) or plain(batch)  # type: ignore
    judge.answers([one])
    assert sizes == []  # all of it went as one tree


def test_close_decisions_are_reread_alone() -> None:
    """Two choices that differ by less than rounding might: the model's own pass, with nothing beside it, decides."""
    gpt = bigrams({"a": "b"})
    with torch.no_grad():
        gpt.lm_head.weight[ord("c"), ord("a")] = gpt.lm_head.weight[ord("b"), ord("a")] * (1 - 1e-6)
    asked = question(CHOICE, ["xac", "xab"], 1, letters(), 100)
    judge = Judge(gpt)
    verdicts = judge.judge(asked.candidates)
    assert is_close(asked, verdicts)
    assert abs(verdicts[0].loss - verdicts[1].loss) < CLOSE
    alone = is_right(asked, [judge.alone(candidate) for candidate in asked.candidates])
    assert judge.answers([asked]) == [alone]


def test_max_per_task_keeps_examples(tmp_path: Path) -> None:
    lines = [choice(f"q{n}", ["yes", "no", f"{n}"], n % 3) for n in range(30)]
    (task,) = open_bundle(write_bundle(tmp_path, {"piqa": (CHOICE, lines)}, shots=3)).tasks
    gpt, tokenizer = random_model(4), letters()
    judge = Judge(gpt)
    answers = judge.answers(questions(task, tokenizer, gpt.context, range(30)))
    for cap in (1, 7, 29, 30, 100):
        score = score_task(judge, tokenizer, task, cap)
        assert (score.right, score.items) == (sum(answers[:cap]), min(cap, 30))


def test_progress_counts_every_question_once() -> None:
    done: list[int] = []
    asked = some_questions(letters(), 128)
    Judge(random_model(1, context=128), 400).answers(asked, done.append)
    assert sum(done) == len(asked)
    assert len(done) > 3


def chance(gpts: list[GPT], tokenizer: Tokenizer, name: str, items: int) -> tuple[float, float, int]:
    """Mean accuracy of some models in a task, its standard error, and the number of choices."""
    task = next(task for task in open_bundle(CORE).tasks if task.name == name)
    scores = [score_task(Judge(gpt), tokenizer, task, items).accuracy for gpt in gpts]
    choices = len(task.lines[0].get("choices") or task.lines[0]["context_options"])
    mean = sum(scores) / len(scores)
    # the models answer the same questions: what remains of chance is mostly in which answers they like
    spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1) / len(scores))
    return mean, max(spread, math.sqrt(1 / choices * (1 - 1 / choices) / items)), choices


@needs_core
@pytest.mark.parametrize(
    "name", ["copa", "openbook_qa", "winograd", "winogrande", "commonsense_qa", "bigbench_language_identification"]
)
def test_random_weights_score_one_in_the_number_of_choices(name: str) -> None:
    mean, error, choices = chance([random_model(seed, context=128) for seed in range(6)], letters(), name, 60)
    assert abs(mean - 1 / choices) < 2.6 * error


@needs_core
@pytest.mark.slow
@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "piqa", "boolq", "agi_eval_lsat_ar"])
def test_random_weights_score_one_in_the_number_of_choices_in_long_tasks_too(name: str) -> None:
    mean, error, choices = chance([random_model(seed, context=256) for seed in range(8)], letters(), name, 150)
    assert abs(mean - 1 / choices) < 2.6 * error


@needs_core
@pytest.mark.slow
def test_core_tasks_batched_and_single() -> None:
    gpt, tokenizer = random_model(3), letters()
    for task in open_bundle(CORE).tasks:
        asked = questions(task, tokenizer, gpt.context, range(10))
        alone = [Judge(gpt, batch_tokens=1, share=False).answers([one])[0] for one in asked]
        assert Judge(gpt).answers(asked) == alone, task.name
