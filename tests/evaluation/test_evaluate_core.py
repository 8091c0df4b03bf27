"""CORE as a whole: what the figure is called, its interval, and that finished tasks are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanochat.evaluation import evaluate_core, groups
from nanochat.evaluation.bundle import CHOICE, CORE_TASKS, LANGUAGE
from nanochat.evaluation.core import CoreScore, TaskScore
from nanochat.evaluation.groups import Asked, Report, choose, evaluate
from nanochat.evaluation.results_file import Finished, path_beside
from tests.evaluation.models import choice, language, letters, random_model, write_bundle

pytestmark = pytest.mark.usefixtures("one_thread")


def scored(names: list[str], right: int = 5, items: int = 10, baseline: float = 0.25) -> list[TaskScore]:
    return [TaskScore(name, right, items, baseline, CHOICE, 0) for name in names]


def test_only_all_tasks_in_full_are_called_core() -> None:
    assert CoreScore(scored(list(CORE_TASKS))).label == "CORE"
    assert CoreScore(scored(list(CORE_TASKS)), 100).label == "CORE, 100 items of each at most"
    fewer = CoreScore(scored(list(CORE_TASKS[:18])))
    assert fewer.label == "CORE over 18 of 22 tasks"
    assert "Not CORE itself" in evaluate_core.as_table(fewer)
    assert max(map(len, evaluate_core.as_table(fewer).splitlines())) <= 80
    assert "Not CORE itself" not in evaluate_core.as_table(CoreScore(scored(list(CORE_TASKS))))


def test_a_table_fits_into_80_columns() -> None:
    """With the widest of everything: all names, accuracies of 100 %, five-figure items; and the longest sentences."""
    some = [*scored(list(CORE_TASKS[:11]), 10_570, 10_570, 0.403), *scored(list(CORE_TASKS[11:]), 0, 20, 0.62)]
    whole = evaluate_core.as_table(CoreScore(some)).splitlines()
    capped = evaluate_core.as_table(CoreScore(some[1:], 10_000)).splitlines()
    assert max(map(len, whole + capped)) <= 80
    assert [len(line) for line in whole[:23]] == [len(whole[0])] * 23  # in columns
    (boolq,) = (line.split() for line in whole if line.startswith("boolq"))
    assert boolq == ["boolq", "0.0%", "62.0%", "-1.632", "0.0-16.1%", "20"]
    (jeopardy,) = (line.split() for line in whole if line.startswith("jeopardy"))
    assert jeopardy == ["jeopardy", "100.0%", "40.3%", "+1.000", "100.0-100.0%", "10,570"]
    assert " ".join(capped[22:]).startswith(" CORE over 21 of 22 tasks, 10,000 items of each at most: ")


def test_the_mean_of_centred_accuracies() -> None:
    score = CoreScore([TaskScore("piqa", 75, 100, 0.5, CHOICE, 0), TaskScore("boolq", 50, 100, 0.62, CHOICE, 0)])
    assert score.tasks[0].centred == pytest.approx(0.5)
    assert score.tasks[1].centred == pytest.approx(-0.12 / 0.38)
    assert score.value == pytest.approx((0.5 - 0.12 / 0.38) / 2)
    low, high = score.interval
    assert low < score.value < high


def test_names_of_groups_and_tasks() -> None:
    assert choose("core")["core"] == ()
    assert choose("copa, piqa") == {"core": ("copa", "piqa")}
    assert choose("copa,core,piqa") == {"core": ()}
    with pytest.raises(ValueError, match="there is no copo, did you mean copa"):
        choose("copo")
    with pytest.raises(ValueError, match="names nothing"):
        choose(" ,")


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
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
    return Asked(random_model(0), letters(), checkpoint, options={"bundle": str(bundle)}, say=lambda _: None)


def test_an_evaluation_is_written_and_not_done_twice(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    report = evaluate("core", asked)
    path = asked.checkpoint.parent.parent / "evaluation.json"
    (kept,) = json.loads(path.read_text())["evaluations"]
    assert kept["name"] == "CORE over 3 of 22 tasks"
    assert kept["value"] == report.facts["value"]
    assert kept["checkpoint"] == "last.ckpt"
    assert kept["tasks"]["copa"]["items"] == 8
    assert report.text.splitlines()[1].startswith("copa ")
    no_scoring(monkeypatch)
    assert evaluate("core", asked).facts["tasks"] == report.facts["tasks"]


def no_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_core, "score_task", lambda *_: pytest.fail("scored again"))


def replaced(asked: Asked, **changes: object) -> Asked:
    return Asked(**{**asked.__dict__, **changes})  # type: ignore[arg-type]


def test_an_interrupted_evaluation_goes_on(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluate("core", asked).facts["tasks"]
    (asked.checkpoint.parent.parent / "evaluation.json").unlink()
    done, score_task = [], evaluate_core.score_task

    def interrupted(judge, tokenizer, task, *rest):  # type: ignore[no-untyped-def]
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task.name)
        return score_task(judge, tokenizer, task, *rest)

    monkeypatch.setattr(evaluate_core, "score_task", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate("core", asked)
    assert done == ["copa", "piqa"]
    done.clear()
    found = evaluate("core", asked).facts["tasks"]
    assert done == ["squad"]
    assert {n: (t["right"], t["items"]) for n, t in found.items()} == {
        n: (t["right"], t["items"]) for n, t in expected.items()
    }


def test_what_is_finished_counts_only_for_the_same(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate("core", asked)
    path = asked.checkpoint.parent.parent / "evaluation.json"
    evaluate("core", replaced(asked, max_per_task=3))
    entries = json.loads(path.read_text())["evaluations"]
    assert [entry["conditions"]["max_per_task"] for entry in entries] == [None, 3]  # both are kept
    scored: list[str] = []
    score_task = evaluate_core.score_task
    monkeypatch.setattr(
        evaluate_core, "score_task", lambda j, k, t, *r: scored.append(t.name) or score_task(j, k, t, *r)
    )
    piqa = Path(str(asked.options["bundle"])) / "some" / "piqa.jsonl"
    piqa.write_text(piqa.read_text().replace("q1", "r1"))
    evaluate("core", asked)
    assert scored == ["piqa"]
    scored.clear()
    asked.checkpoint.write_bytes(b"other weights")
    evaluate("core", asked)
    assert scored == ["copa", "piqa", "squad"]
    scored.clear()
    path.write_text("{ damaged")
    evaluate("core", asked)
    assert scored == ["copa", "piqa", "squad"]


def test_single_tasks(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    report = evaluate("core", replaced(asked, tasks=("piqa",)))
    assert list(report.facts["tasks"]) == ["piqa"]
    assert report.facts["name"] == "CORE over 1 of 22 tasks"
    assert set(evaluate("core", asked).facts["tasks"]) == {"copa", "piqa", "squad"}
    with pytest.raises(ValueError, match="has no boolq: it has copa, piqa, squad"):
        evaluate("core", replaced(asked, tasks=("boolq",)))
    with pytest.raises(ValueError, match="--max_per_task must be at least 1, not 0"):
        evaluate("core", replaced(asked, max_per_task=0))


def test_where_it_is_written(tmp_path: Path) -> None:
    assert path_beside(Path("lightning_logs/tiny/version_3/checkpoints/best.ckpt")).parts[-3:] == (
        "tiny",
        "version_3",
        "evaluation.json",
    )
    assert path_beside(tmp_path / "tiny.ckpt") == tmp_path / "tiny.evaluation.json"


def test_groups_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    for group in ("core", "chat"):
        finished = Finished(path, group, {"model": "x"}, {})
        finished.add("a task", "its lines", {"right": 1})
        finished.close({"value": group})
    assert [entry["value"] for entry in json.loads(path.read_text())["evaluations"]] == ["core", "chat"]
    again = Finished(path, "core", {"model": "x"}, {})
    assert again.known("a task", "its lines") == {"right": 1, "content": "its lines"}
    assert again.known("a task", "other lines") is None


def test_a_group_is_a_module_with_a_function() -> None:
    for group in groups.GROUPS.values():
        assert group.tasks
    assert Report("text", {}).text == "text"
