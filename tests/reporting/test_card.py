"""What the card says of runs whose figures are known, and of those whose files are damaged or missing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from nanochat.evaluation.chat_core import CHATCORE_TASKS
from nanochat.reporting import score_tables, tables
from nanochat.reporting.card import make_card
from nanochat.reporting.life import find_life
from nanochat.reporting.page import as_markdown, in_words
from nanochat.reporting.schema import Card
from nanochat.tokenizer import compression
from tests.reporting.lives import chat_task, core_task, write_run, write_scores


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tokenizers of others, which may have to be fetched."""
    monkeypatch.setattr(compression, "OTHERS", {})


def card_of(root: Path, name: str | None = None, **options: Any) -> Card:
    card = make_card(find_life(root, name), samples=False, **options)
    assert json.loads(json.dumps(card, allow_nan=False)) == card  # plain values, all of them
    page = as_markdown(card)
    for title in ("What is missing", "Its life", "Time and cost", "Bits per byte", "CORE", "Chat tasks", "Samples"):
        assert f"\n## {title}\n" in page
    assert max(map(len, (line for line in in_words(card).splitlines() if "python" not in line))) <= 80
    return card


def missing(card: Card) -> dict[str, str]:
    return {one["what"]: one["why"] for one in card["missing"]}


def commands(card: Card) -> dict[str, str | None]:
    return {one["what"]: one["command"] for one in card["missing"]}


# ------------------------------------------------------------------------------------------------- time and cost


def test_cost_is_summed_over_the_stages(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {"seconds": 300, "tokens": 5000, "flops_per_token": 2_000_000})
    chat = {"seconds": 60, "tokens": 1000, "flops_per_token": 3_000_000, "started_from": "tiny"}
    write_run(tmp_path, "tiny-chat", 0, 2000, chat)
    card = card_of(tmp_path, dollars_per_hour=6.0)
    base, tuned = (stage["figures"] for stage in card["stages"])
    assert (base["flops"], tuned["flops"]) == (1e10, 3e9)
    assert base["dollars"] == pytest.approx(0.5)  # five minutes at a tenth of a dollar each
    assert card["totals"]["seconds"] == 360
    assert card["totals"]["tokens"] == 6000
    assert card["totals"]["flops"] == 1.3e10
    assert card["totals"]["dollars"] == pytest.approx(0.6)
    assert ["cost", "$0.50", "$0.10", "—", "$0.60"] in tables.costs(card).rows
    assert ["time", "5 min 0 s", "1 min 0 s", "—", "6 min 0 s"] in tables.glance(card).rows


def test_a_sum_says_what_it_lacks(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "tiny-chat", 0, 2000, {"started_from": "tiny", "flops_per_token": None})
    card = card_of(tmp_path)
    assert card["totals"]["flops"] == 1e10
    assert card["not_in_totals"]["flops"] == ["CHAT"]
    assert ["FLOPs", "1e+10", "—", "—", "1e+10 without CHAT"] in tables.costs(card).rows
    assert "* only in part: not all of the tasks, of their items or of the stages" in in_words(card)
    assert card["totals"]["dollars"] is None
    assert "--dollars_per_hour" in as_markdown(card)


# ------------------------------------------------------------------------------------- damaged, missing, unfinished


def test_an_interrupted_run_is_told_by_its_curves(tmp_path: Path) -> None:
    lines = "step,tokens,seconds,val/bpb\n0,100,2.0,\n4,500,9.5,3.0\n5,600,11.5,\n"
    write_run(tmp_path, "tiny", 0, 1000, None, {"name": "tiny"}, lines)
    card = card_of(tmp_path)
    (stage,) = card["stages"]
    assert stage["state"] == "interrupted"
    figures = stage["figures"]
    assert (figures["steps"], figures["tokens"], figures["seconds"]) == (6, 600, 11.5)
    assert (figures["val_bpb"], figures["best_val_bpb"], figures["flops"]) == (3.0, 3.0, None)
    assert missing(card)["BASE, its end"] == "the run was interrupted at step 6"
    folder = tmp_path / "lightning_logs" / "tiny" / "version_0"
    how = f"fit --config {folder}/config.yaml --ckpt_path={folder}/checkpoints/last.ckpt"
    assert commands(card)["BASE, its end"] == f"python cli.py {how}"


def test_a_run_that_trains_now_is_said_to(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "tiny", 0, 1000, None)
    (folder / "metrics.csv").write_text("step,tokens,seconds\n7,800,3.5\n")  # just now
    card = card_of(tmp_path)
    assert card["stages"][0]["state"] == "training"
    assert "seems to be training still, at step 8" in missing(card)["BASE, its end"]
    assert "training still" in as_markdown(card)


def test_a_run_that_went_on_is_not_what_its_summary_says(tmp_path: Path) -> None:
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
def test_a_damaged_summary_is_survived(tmp_path: Path, summary: str) -> None:
    write_run(tmp_path, "tiny", 0, 1000, summary)
    card = card_of(tmp_path)
    assert card["stages"][0]["figures"]["steps"] == 10  # as the curves say
    assert card["stages"][0]["tasks"] == {}
    assert card["stages"][0]["figures"]["parameters"] is None


def test_damage_is_told_with_its_file(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "tiny", 0, 1000, "{")
    (folder / "summary.json").touch()  # just now: a damaged run is none that trains
    card = card_of(tmp_path)
    assert missing(card)["BASE, its end"] == "summary.json cannot be read: it is damaged"
    assert "- BASE: summary.json cannot be read: it is damaged" in as_markdown(card)


def test_a_report_that_is_to_be_written_again_is_of_the_same_model(tmp_path: Path) -> None:
    mine = write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "small", 0, 2000, {})
    assert commands(card_of(tmp_path, "tiny"))["samples"] == f"python cli.py report --name={mine}"
    (mine / "metrics.csv").write_text("step,tokens,seconds\n19,800,3.5\n")  # just now
    assert commands(card_of(tmp_path, "tiny"))["BASE, its end"] == f"python cli.py report --name={mine}"


def test_strange_settings_become_plain_values(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "tiny", 0, 1000, {})
    (folder / "config.yaml").write_text("a: .inf\nb: 2026-01-01\nc: &c [*c]\nd: {1: x|y}\ntrainer: {max_epochs: -1}\n")
    card = card_of(tmp_path)
    config = card["stages"][0]["config"]
    assert (config["a"], config["b"], config["d"]) == ("inf", "2026-01-01", {"1": "x|y"})
    assert "| d.1 | x\\|y | — | — |" in as_markdown(card)
    assert "max_epochs" not in as_markdown(card)  # as always


def test_what_was_not_done_comes_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path(), "tiny", 0, 1000, {})
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.yaml").touch()
    assert missing(card_of(Path()))["RL"] == "the model has not been through this stage, which comes after CHAT"
    found = commands(card_of(Path()))
    assert found["CHAT"] == "python cli.py fit --config configs/tiny.yaml --config configs/chat.yaml"
    assert found["RL"] is None  # CHAT comes before
    assert found["CORE of BASE"] == "python cli.py evaluate --ckpt_path=lightning_logs/tiny/version_0 --tasks=core"
    write_run(Path(), "tiny", 1, 900, {})  # the command would take that one
    older = card_of(Path(), "lightning_logs/tiny/version_0")
    start = "--start_from=lightning_logs/tiny/version_0"
    assert commands(older)["CHAT"] == f"python cli.py fit --config configs/chat.yaml --name=tiny {start}"


def test_no_command_asks_for_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, None, checkpoint=None)
    write_run(tmp_path, "tiny-chat", 0, 2000, {}, {"stage": "chat"}, checkpoint=None)
    card = card_of(tmp_path)
    assert set(commands(card)) == {"RL", "BASE, its end", "CORE of BASE", "ChatCORE of CHAT", "tokenizer", "samples"}
    assert not any(command for what, command in commands(card).items() if what != "samples")


# ------------------------------------------------------------------------------------------------------- scores


def test_core_is_reckoned_from_its_tasks(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "tiny", 0, 1000, {})
    tasks = {"copa": core_task(15, 20, 0.5), "arc_easy": core_task(5, 20, 0.25)}
    write_scores(folder, {"group": "core", "tasks": tasks})
    card = card_of(tmp_path)
    score = card["core"]["BASE"]
    assert score["value"] == pytest.approx((0.5 + 0.0) / 2)  # half the way from chance to all; at chance
    assert score["name"] == "CORE over 2 of 22 tasks"
    assert not score["whole"]
    assert score["tasks"]["copa"]["accuracy"] == 0.75
    assert missing(card)["CORE of BASE, whole"] == "what was scored is CORE over 2 of 22 tasks"
    assert ["CORE", "0.2500*", "—", "—", ""] in tables.glance(card).rows
    figure = next(row for row in card["published"] if row["name"] == "CORE")
    assert (figure["value"], figure["comparable"], figure["nanochat"], figure["gpt2"]) == (0.25, False, 0.22, 0.2565)


def test_the_fullest_score_of_the_checkpoint_counts(tmp_path: Path) -> None:
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
    assert missing(card)["CORE of BASE"] == "what was scored is an earlier state of this run"


def test_chat_scores_stand_in_columns(tmp_path: Path) -> None:
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
    assert all(cell.endswith(")*") for cell in rows["ChatCORE"][1:])  # of one task, and of two: they do not compare
    assert score_tables.at_the_end(card).rows == [["identity", "—", "50.0%", "25.0%"]]
    assert "humaneval" in missing(card)["ChatCORE of RL"]
    gsm8k = [(row["label"], row["value"]) for row in card["published"] if row["name"] == "gsm8k"]
    assert gsm8k == [("CHAT", 0.25), ("RL", 0.75)]


def test_what_remains_is_humaneval_which_has_to_be_allowed(tmp_path: Path) -> None:
    chat = write_run(tmp_path, "tiny-chat", 0, 2000, {})
    five = ("arc-easy", "arc-challenge", "mmlu", "gsm8k", "spelling-bee")
    write_scores(chat, {"group": "chat", "tasks": {name: chat_task([1]) for name in five}})
    command = commands(card_of(tmp_path))["ChatCORE of CHAT"]
    assert command is not None
    assert command.endswith("--tasks=humaneval --allow_code_execution")


def test_a_score_of_a_few_items_is_made_whole_with_humaneval(tmp_path: Path) -> None:
    chat = write_run(tmp_path, "tiny-chat", 0, 2000, {})
    tasks = {name: chat_task([1]) for name in CHATCORE_TASKS}
    write_scores(chat, {"group": "chat", "tasks": tasks, "conditions": {"max_per_task": 1}})
    card = card_of(tmp_path)
    assert missing(card)["ChatCORE of CHAT, whole"] == "what was scored is ChatCORE, 1 items of each at most"
    command = commands(card)["ChatCORE of CHAT, whole"]
    assert command is not None
    assert command.endswith("--tasks=chat --allow_code_execution")


# --------------------------------------------------------------------------------------------------------- words


def test_a_gpu_is_named_and_different_devices_are_said(tmp_path: Path) -> None:
    gpu = {"device": "NVIDIA H100 80GB HBM3", "peak_gpu_memory_bytes": 2_500_000_000, "started_from": "tiny"}
    write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "tiny-chat", 0, 2000, gpu)
    page = as_markdown(card_of(tmp_path))
    assert "| device | CPU (2 threads of 2) | NVIDIA H100 80GB HBM3 | — |" in page
    assert "| GPU memory at the peak | — | 2.5 GB | — |" in page
    assert "The stages ran on different devices" in page


def test_markdown_of_others_stays_text(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {"corpus": "my|<b>*text*\n# title"})
    page = as_markdown(card_of(tmp_path))
    assert "my\\|\\<b\\>\\*text\\*\\n" not in page
    assert "| learned from | my\\|\\<b\\>\\*text\\* \\# title | — | — |" in page


def test_numbers_are_finite(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {"val_bpb": math.nan, "seconds": math.inf, "steps": True})
    figures = card_of(tmp_path)["stages"][0]["figures"]
    assert (figures["val_bpb"], figures["seconds"]) == (None, 290)
