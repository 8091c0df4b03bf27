"""Which run began with the weights of which."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nanochat.reporting.lineage import find_lineage
from tests.reporting.run_folders import write_run


def told(root: Path, name: str | None = None) -> list[tuple[str, str]]:
    return [(chapter.label, chapter.run.label) for chapter in find_lineage(root, name).chapters]


def whole(root: Path) -> None:
    """Two models of a tier: of the older one an assistant, by path, and of that one by reinforcement, by name."""
    old = write_run(root, "tiny", 0, 1000, {}, {"name": "tiny"})
    chat = {"stage": "chat", "start_from": "tiny"}
    write_run(root, "tiny-chat", 0, 2000, {"started_from": f"{old}/checkpoints/last.ckpt"}, chat)
    write_run(root, "tiny", 1, 3000, {}, {"name": "tiny"})
    write_run(root, "tiny-reinforce", 0, 4000, {}, {"stage": "reinforce", "start_from": "tiny-chat"})


def test_a_life_is_followed_back_to_its_beginning(tmp_path: Path) -> None:
    whole(tmp_path)
    expected = [("BASE", "tiny/version_0"), ("CHAT", "tiny-chat/version_0"), ("RL", "tiny-reinforce/version_0")]
    assert told(tmp_path) == expected  # not tiny/version_1, though that is the newer one
    assert told(tmp_path, "tiny") == expected
    assert told(tmp_path, "tiny-chat") == expected  # and forward, to what became of it
    life = find_lineage(tmp_path)
    assert (life.name, life.folder, life.missing) == ("tiny", tmp_path / "lightning_logs" / "tiny", ())


def test_a_run_is_named_by_its_folder(tmp_path: Path) -> None:
    whole(tmp_path)
    newer = tmp_path / "lightning_logs" / "tiny" / "version_1"
    assert told(tmp_path, str(newer)) == [("BASE", "tiny/version_1")]
    assert find_lineage(tmp_path, str(newer)).missing == ("CHAT", "RL")


def test_the_newest_model_of_several_names_is_meant(tmp_path: Path) -> None:
    write_run(tmp_path, "small", 0, 5000, {})
    whole(tmp_path)
    assert told(tmp_path) == [("BASE", "small/version_0")]
    assert told(tmp_path, "tiny")[0] == ("BASE", "tiny/version_0")


def test_one_that_says_nothing_is_placed_by_its_name(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "tiny", 1, 3000, {})  # was not there yet when the assistant began
    write_run(tmp_path, "tiny-chat", 0, 2000, None, None)
    life = find_lineage(tmp_path, "tiny-chat")
    assert told(tmp_path, "tiny-chat") == [("BASE", "tiny/version_0"), ("CHAT", "tiny-chat/version_0")]
    assert [chapter.by_name for chapter in life.chapters] == [False, True]


def test_a_beginning_that_is_gone_is_said(tmp_path: Path) -> None:
    whole(tmp_path)
    for version in (0, 1):
        shutil.rmtree(tmp_path / "lightning_logs" / "tiny" / f"version_{version}")
    life = find_lineage(tmp_path)
    assert [chapter.label for chapter in life.chapters] == ["CHAT", "RL"]
    assert life.missing == ("BASE",)
    assert str(life.chapters[0].lost).endswith("tiny/version_0/checkpoints/last.ckpt")


def test_a_stage_that_comes_again_has_a_number(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "tiny-middle", 0, 2000, {}, {"stage": "middle", "start_from": "tiny"})
    write_run(tmp_path, "tiny-chat", 0, 3000, {}, {"stage": "chat", "start_from": "tiny-middle"})
    write_run(tmp_path, "tiny-chat", 1, 4000, {}, {"stage": "chat", "start_from": "lightning_logs/tiny-chat/version_0"})
    assert [label for label, _ in told(tmp_path)] == ["BASE", "MIDDLE", "CHAT", "CHAT 2"]


def test_runs_that_begin_with_each_other_end_the_search(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0, 1000, {"started_from": "b"})
    write_run(tmp_path, "b", 0, 1000, {"started_from": "a"})
    assert len(told(tmp_path, "a")) == 2


def test_another_name_has_a_folder_of_its_own(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "mine-chat", 0, 2000, {}, {"stage": "chat", "start_from": "tiny"})
    assert find_lineage(tmp_path).folder == tmp_path / "lightning_logs" / "mine-chat"


def test_what_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no run below"):
        find_lineage(tmp_path)
    write_run(tmp_path, "tiny", 0, 1000, {})
    with pytest.raises(ValueError, match=r"--name=nobody: there is no run of that name below .* \(there is tiny\)"):
        find_lineage(tmp_path, "nobody")
