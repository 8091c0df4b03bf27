"""Damaged checkpoints are detected, and the message names the previous one if that is intact."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from nanochat.tokenizer import Tokenizer
from nanochat.training.checkpoint.loading import load_checkpoint, load_whole_checkpoint
from nanochat.training.checkpoint.safe_io import SafeCheckpointIO
from tests.conftest import sentences
from tests.fuzzing import check_error_line, corruptions, report


def checkpoint(step: int) -> dict[str, object]:
    """Content as a run writes it: weights, optimizer state, a tokenizer, counts."""
    generator = torch.Generator().manual_seed(step)
    weights = {f"gpt.{n}": torch.randn(32, 8 * (n + 1), generator=generator) for n in range(6)}
    tokenizer = Tokenizer.train(sentences(20), 300)
    states = {n: {"momentum": tensor * 2} for n, tensor in enumerate(weights.values())}
    return {
        "state_dict": weights,
        "global_step": step,
        "optimizer_states": [{"state": states, "param_groups": [{"lr": 0.1, "params": list(states)}]}],
        "TextDataModule": {"tokenizer": tokenizer.to_dict(), "place": 1234, "origin": [0, [0, 1], 0, 99]},
    }


def same(one: object, other: object) -> bool:
    """Whether the contents of two checkpoints are bitwise equal."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return (
            one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
        )
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("count", [45, pytest.param(900, marks=pytest.mark.slow)])
def test_damage_is_detected_or_harmless(count: int, tmp_path: Path) -> None:
    original = checkpoint(7)
    SafeCheckpointIO().save_checkpoint(original, tmp_path / "whole.ckpt")
    content = (tmp_path / "whole.ckpt").read_bytes()
    assert same(load_whole_checkpoint(tmp_path / "whole.ckpt"), original)
    counts, started = Counter[str](), time.monotonic()
    halves = (corruptions(content, count // 2, seed=1), corruptions(content, count // 2, 2, begin=len(content) - 6000))
    for number, damaged in enumerate(damaged for half in halves for damaged in half):
        path = tmp_path / f"{number}.ckpt"  # a new file each time, as a mapped file must not change
        path.write_bytes(damaged.content)
        begun = time.monotonic()
        try:
            loaded = load_whole_checkpoint(path)
        except ValueError as error:
            check_error_line(error, path, damaged.how)
            counts["refused"] += 1
        else:
            assert same(loaded, original), damaged.how
            counts["harmless"] += 1
        assert time.monotonic() - begun < 20, damaged.how
        path.unlink()
    report("checkpoints", counts, started)


def save(folder: Path, *steps: int) -> Path:
    for step in steps:
        SafeCheckpointIO().save_checkpoint(checkpoint(step), folder / "last.ckpt")
    return folder / "last.ckpt"


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_the_message_names_the_previous_checkpoint(tmp_path: Path) -> None:
    last = save(tmp_path, 3, 1500)
    cut_short(last)
    with pytest.raises(
        ValueError, match=r"last.ckpt is not a whole checkpoint.*step 3, is whole: --ckpt_path="
    ) as found:
        load_whole_checkpoint(last)
    check_error_line(found.value, last, "cut short")
    assert str(found.value).endswith(f"--ckpt_path={tmp_path / 'previous.ckpt'}")
    assert load_whole_checkpoint(tmp_path / "previous.ckpt")["global_step"] == 3


def test_a_damaged_previous_checkpoint_is_not_named(tmp_path: Path) -> None:
    last = save(tmp_path, 3, 1500)
    cut_short(last)
    cut_short(tmp_path / "previous.ckpt")
    for path in (last, tmp_path / "previous.ckpt"):
        with pytest.raises(ValueError, match="is not a whole checkpoint") as found:
            load_whole_checkpoint(path)
        assert "--ckpt_path" not in str(found.value)
    last.unlink()
    with pytest.raises(ValueError, match=r"there is no checkpoint .*last\.ckpt$"):
        load_whole_checkpoint(last)


def test_a_changed_byte_of_a_weight_is_detected(tmp_path: Path) -> None:
    last = save(tmp_path, 3)
    content = bytearray(last.read_bytes())
    weight = load_checkpoint(last)["state_dict"]["gpt.3"].numpy().tobytes()
    content[content.index(weight) + 100] ^= 1
    (tmp_path / "other.ckpt").write_bytes(content)
    assert not same(load_checkpoint(tmp_path / "other.ckpt"), checkpoint(3))  # torch does not verify the checksum
    with pytest.raises(ValueError, match="other.ckpt is not a whole checkpoint"):
        load_whole_checkpoint(tmp_path / "other.ckpt")


def test_a_damaged_checkpoint_does_not_become_the_previous_one(tmp_path: Path) -> None:
    last = save(tmp_path, 3, 4)
    cut_short(last)
    save(tmp_path, 5)  # by a run that was resumed from previous.ckpt
    assert load_whole_checkpoint(last)["global_step"] == 5
    assert load_whole_checkpoint(tmp_path / "previous.ckpt")["global_step"] == 3
    save(tmp_path, 6)
    assert load_whole_checkpoint(tmp_path / "previous.ckpt")["global_step"] == 5
