"""Every tier is nanochat's architecture: built from its YAML, exported and run by transformers' own implementation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from nanochat.exchange import write_folder
from nanochat.model import GPT, GPTConfig
from tests.exchange.samples import tokenizers

ROOT = Path(__file__).parent.parent.parent
PARAMETERS = {"tiny": 3.4, "small": 12.2, "medium": 29.4, "large": 97.5, "full": 561.0}  # in millions
LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("large", "full")]  # up to 6 GB, half a minute


def tier_config(name: str) -> GPTConfig:
    config = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    return GPTConfig.from_hyperparameters({**config["data"], **config["model"]})


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        assert round(GPT(tier_config(name)).num_parameters / 1e6, 1) == PARAMETERS[name]


@pytest.mark.parametrize("name", ["tiny", "small", "medium", *LARGE])
def test_transformers_computes_the_same_logits(name: str, tmp_path: Path) -> None:
    """All weights are random: the zero matrices of a fresh model would make any two implementations agree."""
    tokenizer = tokenizers()["english"]
    torch.manual_seed(0)
    gpt = GPT(replace(tier_config(name), vocab_size=tokenizer.vocab_size))  # a large vocabulary takes memory only
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=parameter.size(-1) ** -0.5)
        assert parameter.count_nonzero() > 0.999 * parameter.numel()
    write_folder(tmp_path / name, gpt, gpt.state_dict(), tokenizer)
    ids = torch.randint(0, gpt.vocab_size, (1, 128))
    with torch.inference_mode():
        ours = gpt(ids)
    del gpt
    model = AutoModelForCausalLM.from_pretrained(tmp_path / name)
    assert type(model).__name__ == "NanoChatForCausalLM"
    with torch.inference_mode():
        assert (model(ids).logits - ours).abs().max() < 1e-3
    assert ours.std() > 0.5
