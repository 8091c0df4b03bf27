"""Checkpoints of earlier versions are converted or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nanochat.model import GPT, GPTConfig
from nanochat.training.checkpoint.loading import load_checkpoint
from nanochat.training.checkpoint.versions import current_name


@pytest.mark.parametrize("part", [{"ngrams": 3}, {"ngrams": 1, "counted": 5}])
def test_a_model_with_n_grams_is_refused(tmp_path: Path, part: dict[str, int]) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": {"depth": 4, **part}}, path)
    with pytest.raises(ValueError, match=r"n-grams .*which this version does not run: version 0\.1\.0"):
        load_checkpoint(path)
    plain = {"ngrams": 1, "ngram_slots": 2**15, "predecessors": 0, "counted": 0, "repeats": 8, "shallow": 0.8}
    torch.save({"state_dict": {}, "hyper_parameters": {"depth": 4, **plain}}, path)
    assert load_checkpoint(path)["hyper_parameters"] == {"depth": 4}


def test_names_of_version_0_1_0_are_converted() -> None:
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
