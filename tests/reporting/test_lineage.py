"""The lineage of a model: which run started from the weights of which."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nanochat.reporting.lineage import find_lineage
from tests.reporting.run_folders import write_run


def labels_and_runs(root: Path, name: str | None = None) -> list[tuple[str, str]]:
    return [(stage.label, stage.run.label) for stage in find_lineage(root, name).stages]


def write_two_models(root: Path) -> None:
    """Two base models of one name. CHAT refers to the older one by path, and RL refers to CHAT by name."""
    old = write_run(root, "tiny", 0, 1000, {}, {"name": "tiny"})
    chat = {"stage": "chat", "start_from": "tiny"}
    write_run(root, "tiny-chat", 0, 2000, {"started_from": f"{old}/checkpoints/last.ckpt"}, chat)
    write_run(root, "tiny", 1, 3000, {}, {"name": "tiny"})
    write_run(root, "tiny-reinforce", 0, 4000, {}, {"stage": "reinforce", "start_from": "tiny-chat"})


def test_ancestors_and_descendants_are_found(tmp_path: Path) -> None:
    write_two_models(tmp_path)
    expected = [("BASE", "tiny/version_0"), ("CHAT", "tiny-chat/version_0"), ("RL", "tiny-reinforce/version_0")]
    assert labels_and_runs(tmp_path) == expected  # not tiny/version_1, which is newer
    assert labels_and_runs(tmp_path, "tiny") == expected
    assert labels_and_runs(tmp_path, "tiny-chat") == expected  # and its descendant
    lineage = find_lineage(tmp_path)
    assert (lineage.name, lineage.folder, lineage.missing_labels) == ("tiny", tmp_path / "lightning_logs" / "tiny", ())


def test_a_run_is_selected_by_its_folder(tmp_path: Path) -> None:
    write_two_models(tmp_path)
    newer = tmp_path / "lightning_logs" / "tiny" / "version_1"
    assert labels_and_runs(tmp_path, str(newer)) == [("BASE", "tiny/version_1")]
    assert find_lineage(tmp_path, str(newer)).missing_labels == ("CHAT", "RL")


def test_the_default_is_the_newest_model(tmp_path: Path) -> None:
    write_run(tmp_path, "small", 0, 5000, {})
    write_two_models(tmp_path)
    assert labels_and_runs(tmp_path) == [("BASE", "small/version_0")]
    assert labels_and_runs(tmp_path, "tiny")[0] == ("BASE", "tiny/version_0")


def test_parent_is_inferred_from_the_name(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "tiny", 1, 3000, {})  # started after tiny-chat
    write_run(tmp_path, "tiny-chat", 0, 2000, None, None)
    lineage = find_lineage(tmp_path, "tiny-chat")
    assert labels_and_runs(tmp_path, "tiny-chat") == [("BASE", "tiny/version_0"), ("CHAT", "tiny-chat/version_0")]
    assert [stage.by_name for stage in lineage.stages] == [False, True]


def test_a_deleted_parent_is_reported(tmp_path: Path) -> None:
    write_two_models(tmp_path)
    for version in (0, 1):
        shutil.rmtree(tmp_path / "lightning_logs" / "tiny" / f"version_{version}")
    lineage = find_lineage(tmp_path)
    assert [stage.label for stage in lineage.stages] == ["CHAT", "RL"]
    assert lineage.missing_labels == ("BASE",)
    assert str(lineage.stages[0].missing_parent).endswith("tiny/version_0/checkpoints/last.ckpt")


def test_repeated_stages_are_numbered(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "tiny-middle", 0, 2000, {}, {"stage": "middle", "start_from": "tiny"})
    write_run(tmp_path, "tiny-chat", 0, 3000, {}, {"stage": "chat", "start_from": "tiny-middle"})
    write_run(tmp_path, "tiny-chat", 1, 4000, {}, {"stage": "chat", "start_from": "lightning_logs/tiny-chat/version_0"})
    assert [label for label, _ in labels_and_runs(tmp_path)] == ["BASE", "MIDDLE", "CHAT", "CHAT 2"]


def test_a_cycle_of_parents_ends_the_search(tmp_path: Path) -> None:
    write_run(tmp_path, "a", 0, 1000, {"started_from": "b"})
    write_run(tmp_path, "b", 0, 1000, {"started_from": "a"})
    assert len(labels_and_runs(tmp_path, "a")) == 2


def test_a_run_of_another_name_has_its_own_report_folder(tmp_path: Path) -> None:
    write_run(tmp_path, "tiny", 0, 1000, {})
    write_run(tmp_path, "mine-chat", 0, 2000, {}, {"stage": "chat", "start_from": "tiny"})
    assert find_lineage(tmp_path).folder == tmp_path / "lightning_logs" / "mine-chat"


def test_unknown_runs_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no run in"):
        find_lineage(tmp_path)
    write_run(tmp_path, "tiny", 0, 1000, {})
    with pytest.raises(ValueError, match=r"--name=unknown is neither a run in .* \(available: tiny\) nor a folder"):
        find_lineage(tmp_path, "unknown")
