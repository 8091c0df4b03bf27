"""Small models in which every weight matters, and the ways to read with them."""

from __future__ import annotations

import pytest
import torch

from nanochat.inference.decoder import Decoder, TorchForward
from nanochat.inference.native import load
from nanochat.model import GPT, GPTConfig
from nanochat.tokenizer import Tokenizer

needs_compiler = pytest.mark.skipif(load() is None, reason="no C++ compiler")
WAYS = [pytest.param("native", marks=needs_compiler), "torch"]


def random_gpt(**sizes: int) -> GPT:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig.from_options(**{"depth": 3, "vocab_size": 50, "context": 32, "width": 64, "heads": 4, **sizes}))
    for p in gpt.parameters():
        torch.nn.init.normal_(p, std=p.size(-1) ** -0.5)
    return gpt


def random_ids(streams: int, time: int) -> torch.Tensor:
    return torch.randint(47, (streams, time), generator=torch.Generator().manual_seed(1))


def decoder(gpt: GPT, way: str) -> Decoder:
    """One that reads in C++, or in torch."""
    made = Decoder(gpt)
    if way == "torch":
        made.forward = TorchForward(gpt)
    assert made.is_native == (way == "native")
    return made


def byte_tokenizer() -> Tokenizer:
    """256 bytes and the nine special tokens: what a token says is plain to see."""
    return Tokenizer([bytes([byte]) for byte in range(256)], 265)
