"""The lm-evaluation-harness adapter agrees with our own scoring. Skipped if the harness is not installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanochat.evaluation.bundle import CHOICE, open_bundle
from nanochat.evaluation.prompts import questions
from nanochat.evaluation.scoring import Judge
from tests.evaluation.models import bigrams, choice, letters, random_model, write_bundle

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate

from nanochat.evaluation.harness import NanochatLM

pytestmark = pytest.mark.usefixtures("one_thread")


def instance(kind: str, *arguments: Any) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def test_multiple_choice_agrees_with_our_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All choices have the same number of tokens, because the harness sums losses where CORE takes their mean."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    words = ["tree", "bird", "moon", "lake", "rain", "wind"]
    lines = [
        choice(f"Question: the {n} {words[n % 6]}s?\nAnswer:", [words[(n + k) % 6] for k in range(4)], n % 4)
        for n in range(40)
    ]
    (task,) = open_bundle(write_bundle(tmp_path, {"arc_easy": (CHOICE, lines)})).tasks
    gpt, tokenizer = random_model(5), letters()
    ours = Judge(gpt).answers(questions(task, tokenizer, gpt.context, range(len(lines))))
    in_order = tmp_path / "lines.jsonl"
    in_order.write_text("\n".join(map(json.dumps, task.lines)))
    theirs = ConfigurableTask(
        config={
            "task": "local",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(in_order)}, "cache_dir": str(tmp_path / "cache")},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{query}}",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "target_delimiter": " ",
            "num_fewshot": 0,
            "metric_list": [{"metric": "acc"}],
        }
    )
    found = evaluate(NanochatLM(gpt, tokenizer), {"local": theirs}, bootstrap_iters=0, log_samples=True)
    by_line = sorted(found["samples"]["local"], key=lambda sample: sample["doc_id"])
    assert [bool(sample["acc"]) for sample in by_line] == ours
    assert 0 < sum(ours) < len(ours)


def test_likelihoods() -> None:
    gpt, tokenizer = bigrams({"a": "b"}), letters()
    model, judge = NanochatLM(gpt, tokenizer), Judge(gpt)
    known, unknown, none = model.loglikelihood(
        [instance("loglikelihood", *pair) for pair in (("xa", "b"), ("xa", "c"), ("", ""))]
    )
    assert known[1]
    assert not unknown[1]
    assert known[0] > unknown[0]
    assert none == (0.0, True)
    (whole,) = model.loglikelihood_rolling([instance("loglikelihood_rolling", "xab")])
    assert whole == pytest.approx(-judge.judge([candidate("xab", tokenizer)])[0].total)


def candidate(text: str, tokenizer: Any) -> Any:
    from nanochat.evaluation.prompts import Candidate

    return Candidate([tokenizer.bos, *tokenizer.encode(text)], 1)


def test_rolling_scores_each_token_once() -> None:
    """A bigram model gives the same log-probability however the text is split."""
    gpt, tokenizer = bigrams({"a": "b", "b": "a"}), letters()
    model = NanochatLM(gpt, tokenizer)
    each = [
        model.loglikelihood([instance("loglikelihood", text, after)])[0][0] for text, after in (("a", "b"), ("", "a"))
    ]
    for pairs in (60, 127, 128, 200, 400):
        (found,) = model.loglikelihood_rolling([instance("loglikelihood_rolling", "ab" * pairs)])
        assert found == pytest.approx(each[1] + (2 * pairs - 1) * each[0], rel=1e-4)
    assert model.loglikelihood_rolling([instance("loglikelihood_rolling", "")]) == [0.0]


def test_generation_ends_at_stop_strings() -> None:
    model = NanochatLM(bigrams({"a": "b", "b": "c", "c": "a"}), letters())
    options = {"until": ["ca"], "max_gen_toks": 7}
    found = model.generate_until(
        [
            instance("generate_until", "xa", options),
            instance("generate_until", "xa", {"until": [], "max_gen_toks": 4}),
            instance("generate_until", "y" * 1000 + "b", {"until": "b", "max_gen_toks": 9}),
        ]
    )
    assert found == ["b", "bcab", "ca"]
