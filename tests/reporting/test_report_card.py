"""Report cards of runs with known figures, and of runs whose files are damaged or missing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from nanochat.evaluation.chat_core import CHATCORE_TASKS
from nanochat.reporting import score_tables, tables
from nanochat.reporting.lineage import find_lineage
from nanochat.reporting.render import render_markdown, render_text
from nanochat.reporting.report_card import make_report_card
from nanochat.reporting.schema import ReportCard
from nanochat.tokenizer import compression
from tests.reporting.run_folders import chat_task, core_task, write_run, write_scores


@pytest.fixture(autouse=True)
def no_reference_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2's and GPT-4's tokenizers may have to be downloaded."""
    monkeypatch.setattr(compression, "REFERENCES", {})


def card_of(root: Path, name: str | None = None, **options: Any) -> ReportCard:
    card = make_report_card(find_lineage(root, name), samples=False, **options)
    assert json.loads(json.dumps(card, allow_nan=False)) == card  # JSON values only
    page = render_markdown(card)
    for title in (
        "Missing results",
        "Training stages",
        "Time and cost",
        "Bits per byte",
        "CORE",
        "Chat tasks",
        "Samples",
    ):
        assert f"\n## {title}\n" in page
    assert max(map(len, (line for line in render_text(card).splitlines() if "python" not in line))) <= 80
    return card


def missing(card: ReportCard) -> dict[str, str]:
    return {item["what"]: item["why"] for item in card["missing"]}


def commands(card: ReportCard) -> dict[str, str | None]:
    return {item["what"]: item["command"] for item in card["missing"]}


# ------------------------------------------------------------------------------------------------- time and cost


def test_costs_are_summed_over_stages(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {"seconds": 300, "tokens": 5000, "flops_per_token": 2_000_000})
    chat = {"seconds": 60, "tokens": 1000, "flops_per_token": 3_000_000, "started_from": "tiny"}
    write_run(tmp_path, "tiny-chat", 0, 2000, chat)
    card = card_of(tmp_path, dollars_per_hour=6.0)
    base, tuned = (stage["figures"] for stage in card["stages"])
    assert (base["flops"], tuned["flops"]) == (1e10, 3e9)
    assert base["dollars"] == pytest.approx(0.5)  # 5 minutes at $6 per hour
    assert card["totals"]["seconds"] == 360
    assert card["totals"]["tokens"] == 6000
    assert card["totals"]["flops"] == 1.3e10
    assert card["totals"]["dollars"] == pytest.approx(0.6)
    assert ["cost", "$0.50", "$0.10", "—", "$0.60"] in tables.costs(card).rows
    assert ["time", "5 min 0 s", "1 min 0 s", "—", "6 min 0 s"] in tables.summary(card).rows


def test_an_incomplete_total_is_marked(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "tiny-chat", 0, 2000, {"started_from": "tiny", "flops_per_token": None})
    card = card_of(tmp_path)
    assert card["totals"]["flops"] == 1e10
    assert card["not_in_totals"]["flops"] == ["CHAT"]
    assert ["FLOPs", "1e+10", "—", "—", "1e+10 without CHAT"] in tables.costs(card).rows
    assert "* incomplete: not all tasks, items or stages" in render_text(card)
    assert card["totals"]["dollars"] is None
    assert "--dollars_per_hour" in render_markdown(card)


# ------------------------------------------------------------------------------------- damaged, missing, unfinished


def test_figures_of_an_interrupted_run_come_from_its_metrics(tmp_path: Path) -> None:
    lines = "step,tokens,seconds,val/bpb\n0,100,2.0,\n4,500,9.5,3.0\n5,600,11.5,\n"
    write_run(tmp_path, "tiny", 0, 1000, None, {"name": "tiny"}, lines)
    card = card_of(tmp_path)
    (stage,) = card["stages"]
    assert stage["state"] == "interrupted"
    figures = stage["figures"]
    assert (figures["steps"], figures["tokens"], figures["seconds"]) == (6, 600, 11.5)
    assert (figures["val_bpb"], figures["best_val_bpb"], figures["flops"]) == (3.0, 3.0, None)
    assert missing(card)["end of BASE"] == "the run was interrupted at step 6"
    folder = tmp_path / "lightning_logs" / "tiny" / "version_0"
    how = f"fit --config {folder}/config.yaml --ckpt_path={folder}/checkpoints/last.ckpt"
    assert commands(card)["end of BASE"] == f"python cli.py {how}"


def test_a_run_in_progress_is_reported(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "tiny", 0, 1000, None)
    (folder / "metrics.csv").write_text("step,tokens,seconds\n7,800,3.5\n")  # just now
    card = card_of(tmp_path)
    assert card["stages"][0]["state"] == "training"
    assert "seems to be still training, at step 8" in missing(card)["end of BASE"]
    assert "still training" in render_markdown(card)


def test_a_resumed_run_supersedes_its_summary(tmp_path: Path) -> None:
    write_run(
        tmp_path, "tiny", 0, 1000, {"steps": 10}, {}, "step,tokens,seconds,val/bpb\n9,5000,290,2.0\n14,7500,400,1.0\n"
    )
    card = card_of(tmp_path)
    figures = card["stages"][0]["figures"]
    assert card["stages"][0]["state"] == "interrupted"
    assert (figures["steps"], figures["tokens"], figures["seconds"], figures["val_bpb"]) == (15, 7500, 400, 1.0)
    assert figures["training_seconds"] is None


@pytest.mark.parametrize(
    "summary",
    [
        '{"complete": tr',
        "[]",
        '{"tokens": "many", "seconds": null, "tasks": [1], "versions": 3, "complete": true}',
        "\x00",
    ],
)
def test_a_damaged_summary_is_ignored(tmp_path: Path, summary: str) -> None:
    write_run(tmp_path, "tiny", 0, 1000, summary)
    card = card_of(tmp_path)
    assert card["stages"][0]["figures"]["steps"] == 10  # from metrics.csv
    assert card["stages"][0]["tasks"] == {}
    assert card["stages"][0]["figures"]["parameters"] is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "tiny", 0, 1000, "{")
    (folder / "summary.json").touch()  # just now, and still not "training"
    card = card_of(tmp_path)
    assert missing(card)["end of BASE"] == "summary.json cannot be read: it is damaged"
    assert "- BASE: summary.json cannot be read: it is damaged" in render_markdown(card)


def test_suggested_report_commands_name_the_same_model(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "small", 0, 2000, {})
    assert commands(card_of(tmp_path, "tiny"))["samples"] == f"python cli.py report --name={folder}"
    (folder / "metrics.csv").write_text("step,tokens,seconds\n19,800,3.5\n")  # just now
    assert commands(card_of(tmp_path, "tiny"))["end of BASE"] == f"python cli.py report --name={folder}"


def test_settings_become_json_values(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "tiny", 0, 1000, {})
    (folder / "config.yaml").write_text("a: .inf\nb: 2026-01-01\nc: &c [*c]\nd: {1: x|y}\ntrainer: {max_epochs: -1}\n")
    card = card_of(tmp_path)
    config = card["stages"][0]["config"]
    assert (config["a"], config["b"], config["d"]) == ("inf", "2026-01-01", {"1": "x|y"})
    assert "| d.1 | x\\|y | — | — |" in render_markdown(card)
    assert "max_epochs" not in render_markdown(card)  # the usual value


def test_missing_stages_come_with_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path(), "tiny", 0, 1000, {})
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.yaml").touch()
    assert missing(card_of(Path()))["RL"] == "this stage has not been trained; it requires CHAT"
    found = commands(card_of(Path()))
    assert found["CHAT"] == "python cli.py fit --config configs/tiny.yaml --config configs/chat.yaml"
    assert found["RL"] is None  # requires CHAT
    assert found["CORE of BASE"] == "python cli.py evaluate --ckpt_path=lightning_logs/tiny/version_0 --tasks=core"
    write_run(Path(), "tiny", 1, 900, {})  # the default start of the next stage
    older = card_of(Path(), "lightning_logs/tiny/version_0")
    start = "--start_from=lightning_logs/tiny/version_0"
    assert commands(older)["CHAT"] == f"python cli.py fit --config configs/chat.yaml --name=tiny {start}"


def test_no_command_needs_a_missing_checkpoint(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, None, checkpoint=None)
    write_run(tmp_path, "tiny-chat", 0, 2000, {}, {"stage": "chat"}, checkpoint=None)
    card = card_of(tmp_path)
    assert set(commands(card)) == {"RL", "end of BASE", "CORE of BASE", "ChatCORE of CHAT", "tokenizer", "samples"}
    assert not any(command for what, command in commands(card).items() if what != "samples")


# ------------------------------------------------------------------------------------------------------- scores


def test_core_is_the_mean_of_its_tasks(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "tiny", 0, 1000, {})
    tasks = {"copa": core_task(15, 20, 0.5), "arc_easy": core_task(5, 20, 0.25)}
    write_scores(folder, {"group": "core", "tasks": tasks})
    card = card_of(tmp_path)
    score = card["core"]["BASE"]
    assert score["value"] == pytest.approx((0.5 + 0.0) / 2)  # copa is halfway from chance to 1, arc_easy at chance
    assert score["name"] == "CORE over 2 of 22 tasks"
    assert not score["whole"]
    assert score["tasks"]["copa"]["accuracy"] == 0.75
    assert missing(card)["full CORE of BASE"] == "only CORE over 2 of 22 tasks was measured"
    assert ["CORE", "0.2500*", "—", "—", ""] in tables.summary(card).rows
    figure = next(row for row in card["published"] if row["name"] == "CORE")
    assert (figure["value"], figure["comparable"], figure["nanochat"], figure["gpt2"]) == (0.25, False, 0.22, 0.2565)


def test_the_most_complete_score_of_the_checkpoint_is_used(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "tiny", 0, 1000, {})
    capped, more, other = (
        {"group": "core", "tasks": {"copa": core_task(right, items, 0.5)}, "conditions": conditions}
        for right, items, conditions in ((5, 10, {"max_per_task": 10}), (60, 80, {}), (100, 100, {"model": "another"}))
    )
    damaged = {"group": "core", "tasks": {"copa": {"right": "x"}, "piqa": 3}}
    write_scores(folder, more, capped, other, damaged)
    assert card_of(tmp_path)["core"]["BASE"]["tasks"]["copa"]["items"] == 80
    write_scores(folder, other)
    card = card_of(tmp_path)
    assert card["core"] == {}
    assert missing(card)["CORE of BASE"] == "the scores are of an earlier checkpoint of this run"


def test_chat_scores_have_a_column_per_stage(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {})
    chat = write_run(tmp_path, "tiny-chat", 0, 2000, {"started_from": "tiny", "tasks": {"identity": 0.5}})
    tuned = {"started_from": "tiny-chat", "tasks": {"identity": 0.25}}
    after = write_run(tmp_path, "tiny-reinforce", 0, 3000, tuned)
    write_scores(
        chat, {"group": "chat", "tasks": {"gsm8k": chat_task([1, 0, 0, 0]), "mmlu": chat_task([1, 1, 0, 0], 0.25)}}
    )
    write_scores(after, {"group": "chat", "tasks": {"gsm8k": chat_task([1, 1, 1, 0])}})
    card = card_of(tmp_path)
    rows = {row[0]: row[1:] for row in score_tables.chat(card).rows}
    assert [cell.split()[0] for cell in rows["gsm8k"]] == ["—", "25.0%", "75.0%"]
    assert [cell.split()[0] for cell in rows["mmlu"]] == ["—", "50.0%", "—"]
    assert rows["ChatCORE"][1].startswith("+0.2917 ")  # (1/4 + 1/3) / 2
    assert rows["ChatCORE"][2].startswith("+0.7500 ")
    assert all(cell.endswith(")*") for cell in rows["ChatCORE"][1:])  # over two tasks and over one: incomplete
    assert score_tables.end_of_training(card).rows == [["identity", "—", "50.0%", "25.0%"]]
    assert "humaneval" in missing(card)["ChatCORE of RL"]
    gsm8k = [(row["label"], row["value"]) for row in card["published"] if row["name"] == "gsm8k"]
    assert gsm8k == [("CHAT", 0.25), ("RL", 0.75)]


def test_missing_humaneval_needs_code_execution(tmp_path: Path) -> None:
    chat = write_run(tmp_path, "tiny-chat", 0, 2000, {})
    five = ("arc-easy", "arc-challenge", "mmlu", "gsm8k", "spelling-bee")
    write_scores(chat, {"group": "chat", "tasks": {name: chat_task([1]) for name in five}})
    command = commands(card_of(tmp_path))["ChatCORE of CHAT"]
    assert command is not None
    assert command.endswith("--tasks=humaneval --allow_code_execution")


def test_a_full_chat_score_includes_humaneval(tmp_path: Path) -> None:
    chat = write_run(tmp_path, "tiny-chat", 0, 2000, {})
    tasks = {name: chat_task([1]) for name in CHATCORE_TASKS}
    write_scores(chat, {"group": "chat", "tasks": tasks, "conditions": {"max_per_task": 1}})
    card = card_of(tmp_path)
    assert missing(card)["full ChatCORE of CHAT"] == "only ChatCORE, 1 items of each at most was measured"
    command = commands(card)["full ChatCORE of CHAT"]
    assert command is not None
    assert command.endswith("--tasks=chat --allow_code_execution")


# --------------------------------------------------------------------------------------------------------- page


def test_gpus_and_different_devices_are_reported(tmp_path: Path) -> None:
    gpu = {"device": "NVIDIA H100 80GB HBM3", "peak_gpu_memory_bytes": 2_500_000_000, "started_from": "tiny"}
    write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "tiny-chat", 0, 2000, gpu)
    page = render_markdown(card_of(tmp_path))
    assert "| device | CPU (2 threads of 2) | NVIDIA H100 80GB HBM3 | — |" in page
    assert "| peak GPU memory | — | 2.5 GB | — |" in page
    assert "The stages ran on different devices" in page


def test_markdown_in_values_is_escaped(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {"corpus": "my|<b>*text*\n# title"})
    page = render_markdown(card_of(tmp_path))
    assert "my\\|\\<b\\>\\*text\\*\\n" not in page
    assert "| training data | my\\|\\<b\\>\\*text\\* \\# title | — | — |" in page


def test_numbers_that_are_not_finite_are_ignored(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {"val_bpb": math.nan, "seconds": math.inf, "steps": True})
    figures = card_of(tmp_path)["stages"][0]["figures"]
    assert (figures["val_bpb"], figures["seconds"]) == (None, 290)
