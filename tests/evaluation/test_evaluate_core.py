"""CORE as a whole: its label, its interval, and stored results."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from nanochat.evaluation import evaluate_core
from nanochat.evaluation.bundle import CHOICE, CORE_TASKS, LANGUAGE
from nanochat.evaluation.core import CoreScore, CoreTaskScore
from nanochat.evaluation.groups import GROUPS, EvaluationRequest, evaluate, parse_tasks
from nanochat.evaluation.results_file import ResultsFile, results_path
from tests.evaluation.models import choice, language, letters, random_model, write_bundle

pytestmark = pytest.mark.usefixtures("one_thread")


def scored(names: list[str], right: int = 5, items: int = 10, baseline: float = 0.25) -> list[CoreTaskScore]:
    return [CoreTaskScore(name, right, items, baseline, CHOICE, 0) for name in names]


def test_label_names_missing_tasks_and_limits() -> None:
    assert CoreScore(scored(list(CORE_TASKS))).label == "CORE"
    assert CoreScore(scored(list(CORE_TASKS)), 100).label == "CORE, 100 items of each at most"
    fewer = CoreScore(scored(list(CORE_TASKS[:18])))
    assert fewer.label == "CORE over 18 of 22 tasks"
    assert "This is not CORE" in evaluate_core.score_table(fewer)
    assert max(map(len, evaluate_core.score_table(fewer).splitlines())) <= 80
    assert "This is not CORE" not in evaluate_core.score_table(CoreScore(scored(list(CORE_TASKS))))


def test_table_is_80_columns_wide() -> None:
    """With the widest cells: all names, accuracies of 100 %, five-digit items; and the longest sentences."""
    some = [*scored(list(CORE_TASKS[:11]), 10_570, 10_570, 0.403), *scored(list(CORE_TASKS[11:]), 0, 20, 0.62)]
    whole = evaluate_core.score_table(CoreScore(some)).splitlines()
    capped = evaluate_core.score_table(CoreScore(some[1:], 10_000)).splitlines()
    assert max(map(len, whole + capped)) <= 80
    assert [len(line) for line in whole[:23]] == [len(whole[0])] * 23  # in columns
    (boolq,) = (line.split() for line in whole if line.startswith("boolq"))
    assert boolq == ["boolq", "0.0%", "62.0%", "-1.632", "0.0-16.1%", "20"]
    (jeopardy,) = (line.split() for line in whole if line.startswith("jeopardy"))
    assert jeopardy == ["jeopardy", "100.0%", "40.3%", "+1.000", "100.0-100.0%", "10,570"]
    assert " ".join(capped[22:]).startswith(" CORE over 21 of 22 tasks, 10,000 items of each at most: ")


def test_mean_of_centred_accuracies() -> None:
    score = CoreScore(
        [CoreTaskScore("piqa", 75, 100, 0.5, CHOICE, 0), CoreTaskScore("boolq", 50, 100, 0.62, CHOICE, 0)]
    )
    assert score.tasks[0].centred == pytest.approx(0.5)
    assert score.tasks[1].centred == pytest.approx(-0.12 / 0.38)
    assert score.value == pytest.approx((0.5 - 0.12 / 0.38) / 2)
    low, high = score.interval
    assert low < score.value < high


def test_parse_tasks() -> None:
    assert parse_tasks("core")["core"] == ()
    assert parse_tasks("copa, piqa") == {"core": ("copa", "piqa")}
    assert parse_tasks("copa,core,piqa") == {"core": ()}
    with pytest.raises(ValueError, match="there is no copo, did you mean copa"):
        parse_tasks("copo")
    with pytest.raises(ValueError, match="--tasks is empty"):
        parse_tasks(" ,")


@pytest.fixture
def core_request(tmp_path: Path) -> EvaluationRequest:
    lines = [choice(f"q{n}", ["yes", "no"], n % 2) for n in range(8)]
    tasks = {
        "copa": (CHOICE, lines),
        "piqa": (CHOICE, lines[::-1]),
        "squad": (LANGUAGE, [language(f"{n} is", f"{n}") for n in range(5)]),
    }
    bundle = write_bundle(tmp_path / "bundle", tasks, shots=1, baselines={"copa": 50, "piqa": 50})
    checkpoint = tmp_path / "runs" / "version_0" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"the weights")
    return EvaluationRequest(
        random_model(0), letters(), checkpoint, options={"bundle": str(bundle)}, say=lambda _: None
    )


def test_stored_results_are_reused(core_request: EvaluationRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    report = evaluate("core", core_request)
    path = core_request.checkpoint.parent.parent / "evaluation.json"
    (kept,) = json.loads(path.read_text())["evaluations"]
    assert kept["name"] == "CORE over 3 of 22 tasks"
    assert kept["value"] == report.results["value"]
    assert kept["checkpoint"] == "last.ckpt"
    assert kept["tasks"]["copa"]["items"] == 8
    assert report.text.splitlines()[1].startswith("copa ")
    forbid_scoring(monkeypatch)
    assert evaluate("core", core_request).results["tasks"] == report.results["tasks"]


def forbid_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_core, "score_task", lambda *_: pytest.fail("scored again"))


def replace(core_request: EvaluationRequest, **changes: object) -> EvaluationRequest:
    return EvaluationRequest(**{**core_request.__dict__, **changes})  # type: ignore[arg-type]


def test_interrupted_evaluation_continues(core_request: EvaluationRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluate("core", core_request).results["tasks"]
    (core_request.checkpoint.parent.parent / "evaluation.json").unlink()
    done, score_task = [], evaluate_core.score_task

    def interrupted(judge, tokenizer, task, *rest):  # type: ignore[no-untyped-def]
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task.name)
        return score_task(judge, tokenizer, task, *rest)

    monkeypatch.setattr(evaluate_core, "score_task", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate("core", core_request)
    assert done == ["copa", "piqa"]
    done.clear()
    found = evaluate("core", core_request).results["tasks"]
    assert done == ["squad"]
    assert {n: (t["right"], t["items"]) for n, t in found.items()} == {
        n: (t["right"], t["items"]) for n, t in expected.items()
    }


def test_results_are_reused_only_for_equal_conditions(
    core_request: EvaluationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate("core", core_request)
    path = core_request.checkpoint.parent.parent / "evaluation.json"
    evaluate("core", replace(core_request, max_per_task=3))
    entries = json.loads(path.read_text())["evaluations"]
    assert [entry["conditions"]["max_per_task"] for entry in entries] == [None, 3]  # both are stored
    scored: list[str] = []
    score_task = evaluate_core.score_task
    monkeypatch.setattr(
        evaluate_core, "score_task", lambda j, k, t, *r: scored.append(t.name) or score_task(j, k, t, *r)
    )
    piqa = Path(str(core_request.options["bundle"])) / "some" / "piqa.jsonl"
    piqa.write_text(piqa.read_text().replace("q1", "r1"))
    evaluate("core", core_request)
    assert scored == ["piqa"]
    scored.clear()
    core_request.checkpoint.write_bytes(b"other weights")
    evaluate("core", core_request)
    assert scored == ["copa", "piqa", "squad"]
    scored.clear()
    path.write_text("{ damaged")
    evaluate("core", core_request)
    assert scored == ["copa", "piqa", "squad"]


def test_single_tasks(core_request: EvaluationRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    report = evaluate("core", replace(core_request, tasks=("piqa",)))
    assert list(report.results["tasks"]) == ["piqa"]
    assert report.results["name"] == "CORE over 1 of 22 tasks"
    assert set(evaluate("core", core_request).results["tasks"]) == {"copa", "piqa", "squad"}
    with pytest.raises(ValueError, match="has no boolq: it has copa, piqa, squad"):
        evaluate("core", replace(core_request, tasks=("boolq",)))
    with pytest.raises(ValueError, match="--max_per_task must be at least 1, not 0"):
        evaluate("core", replace(core_request, max_per_task=0))


def test_results_path(tmp_path: Path) -> None:
    assert results_path(Path("lightning_logs/tiny/version_3/checkpoints/best.ckpt")).parts[-3:] == (
        "tiny",
        "version_3",
        "evaluation.json",
    )
    assert results_path(tmp_path / "tiny.ckpt") == tmp_path / "tiny.evaluation.json"


def test_groups_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    for group in ("core", "chat"):
        results = ResultsFile(path, group, {"model": "x"}, {})
        results.add("a task", "its lines", {"right": 1})
        results.add_summary({"value": group})
    assert [entry["value"] for entry in json.loads(path.read_text())["evaluations"]] == ["core", "chat"]
    results = ResultsFile(path, "core", {"model": "x"}, {})
    assert results.get("a task", "its lines") == {"right": 1, "content": "its lines"}
    assert results.get("a task", "other lines") is None


def test_every_group_has_tasks_and_a_module() -> None:
    for group in GROUPS.values():
        assert group.tasks
        assert callable(importlib.import_module(group.module).evaluate)
