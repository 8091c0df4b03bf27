"""Damaged checkpoints: noticed, named, and the one before is offered where it is whole."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from nanochat.model import GPT, GPTConfig
from nanochat.tokenizer import Tokenizer
from nanochat.training.checkpoint.loading import load_checkpoint, load_whole_checkpoint
from nanochat.training.checkpoint.safe_io import SafeCheckpointIO
from nanochat.training.checkpoint.versions import current_name
from tests.conftest import sentences
from tests.fuzzing import check_error_line, corruptions, report


def checkpoint(step: int) -> dict[str, object]:
    """Of the kind that a run writes: weights, an optimizer's state, a tokenizer, counts."""
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
    """Whether two checkpoints' contents are equal to the last bit."""
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
def test_every_damage_is_noticed_or_harms_nothing(count: int, tmp_path: Path) -> None:
    original = checkpoint(7)
    SafeCheckpointIO().save_checkpoint(original, tmp_path / "whole.ckpt")
    content = (tmp_path / "whole.ckpt").read_bytes()
    assert same(load_whole_checkpoint(tmp_path / "whole.ckpt"), original)
    counts, started = Counter[str](), time.monotonic()
    halves = (corruptions(content, count // 2, seed=1), corruptions(content, count // 2, 2, begin=len(content) - 6000))
    for number, damaged in enumerate(damaged for half in halves for damaged in half):
        path = tmp_path / f"{number}.ckpt"  # another name each time: a file that is mapped must not change
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


def test_the_checkpoint_before_is_offered(tmp_path: Path) -> None:
    last = save(tmp_path, 3, 1500)
    cut_short(last)
    with pytest.raises(
        ValueError, match=r"last.ckpt is not a whole checkpoint.*step 3, is whole: --ckpt_path="
    ) as found:
        load_whole_checkpoint(last)
    check_error_line(found.value, last, "cut short")
    assert str(found.value).endswith(f"--ckpt_path={tmp_path / 'previous.ckpt'}")
    assert load_whole_checkpoint(tmp_path / "previous.ckpt")["global_step"] == 3


def test_nothing_is_offered_where_the_one_before_is_damaged_too(tmp_path: Path) -> None:
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


def test_one_changed_byte_of_a_weight_is_noticed(tmp_path: Path) -> None:
    last = save(tmp_path, 3)
    content = bytearray(last.read_bytes())
    weight = load_checkpoint(last)["state_dict"]["gpt.3"].numpy().tobytes()
    content[content.index(weight) + 100] ^= 1
    (tmp_path / "other.ckpt").write_bytes(content)
    assert not same(load_checkpoint(tmp_path / "other.ckpt"), checkpoint(3))  # torch itself does not look
    with pytest.raises(ValueError, match="other.ckpt is not a whole checkpoint"):
        load_whole_checkpoint(tmp_path / "other.ckpt")


def test_a_damaged_checkpoint_never_takes_the_place_of_a_whole_one(tmp_path: Path) -> None:
    last = save(tmp_path, 3, 4)
    cut_short(last)
    save(tmp_path, 5)  # by a run that went on from previous.ckpt
    assert load_whole_checkpoint(last)["global_step"] == 5
    assert load_whole_checkpoint(tmp_path / "previous.ckpt")["global_step"] == 3
    save(tmp_path, 6)
    assert load_whole_checkpoint(tmp_path / "previous.ckpt")["global_step"] == 5


@pytest.mark.parametrize("part", [{"ngrams": 3}, {"ngrams": 1, "counted": 5}])
def test_a_model_with_n_grams_is_refused(tmp_path: Path, part: dict[str, int]) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": {"depth": 4, **part}}, path)
    with pytest.raises(ValueError, match=r"n-grams .*which this version does not run: version 0\.1\.0"):
        load_checkpoint(path)
    plain = {"ngrams": 1, "ngram_slots": 2**15, "predecessors": 0, "counted": 0, "repeats": 8, "shallow": 0.8}
    torch.save({"state_dict": {}, "hyper_parameters": {"depth": 4, **plain}}, path)
    assert load_checkpoint(path)["hyper_parameters"] == {"depth": 4}


def test_earlier_names_are_converted() -> None:
    """Names of version 0.1.0, and those of this version, which stay."""
    gpt = GPT(GPTConfig.from_options(2, 300, 64))
    names = [f"gpt.{name}" for name in gpt.state_dict()]
    earlier = [name.replace("transformer.h.", "blocks.").replace("lm_head", "head") for name in names]
    earlier = [name.replace("transformer.wte", "embedding") for name in earlier]
    for new, old in (("attn.c_q", "attention.query"), ("attn.c_k", "attention.key"), ("attn.c_v", "attention.value")):
        earlier = [name.replace(new, old) for name in earlier]
    for new, old in (("attn.c_proj", "attention.output"), ("mlp.c_fc", "mlp.expand"), ("mlp.c_proj", "mlp.contract")):
        earlier = [name.replace(new, old) for name in earlier]
    assert not set(earlier) & set(names)
    assert [current_name(name) for name in earlier] == names == [current_name(name) for name in names]
