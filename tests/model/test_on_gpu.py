"""The operations that a GPU would run, checked on a CPU: their dtypes and kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nanochat.model import GPT, GPTConfig, fused
from nanochat.model.gpt import _run_block
from nanochat.model.loss import loss_and_gradient


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU takes the GPU's code path: no fused functions, and autocast runs RMSNorm in float32.

    Autocast does so on CUDA only (aten/src/ATen/autocast_mode.h of torch 2.13).
    """
    plain = F.rms_norm

    def rms_norm(x: Tensor, shape: tuple[int]) -> Tensor:
        return plain(x.float() if torch.is_autocast_enabled("cpu") else x, shape)

    monkeypatch.setattr(fused, "applies", lambda x: False)
    monkeypatch.setattr(fused, "attends_by_products", lambda query, key: False)
    monkeypatch.setattr(F, "rms_norm", rms_norm)


class Products(TorchDispatchMode):
    """Records the dtypes of all matrix products and the arguments of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()
        self.attention: list[tuple[Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if "mm." in name or "attention" in name:
            self.dtypes |= {a.dtype for a in args[:3] if isinstance(a, Tensor)}
        if "attention" in name and "backward" not in name:
            self.attention.append((args, kwargs))
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("on_gpu")
def test_products_are_bfloat16_and_attention_has_no_mask() -> None:
    """A mask or another dtype would rule out the flash kernel."""
    gpt = GPT(GPTConfig.from_options(2, 40, 16, width=32, heads=2))
    ids, targets = torch.randint(40, (2, 3, 16))
    with Products() as products:
        with torch.autocast("cpu", torch.bfloat16):
            assert gpt.hidden(ids).dtype == torch.bfloat16
            loss, losses = gpt.loss(ids, targets, torch.full((3, 16), 1 / 48))
        loss.backward()
    assert products.dtypes == {torch.bfloat16}
    assert len(products.attention) == 4  # two blocks, twice
    for args, kwargs in products.attention:
        assert args[4] is True  # causal
        assert not kwargs.get("attn_mask")
        assert args[0].stride(-1) == 1
    assert (loss.dtype, losses.dtype) == (torch.float32, torch.float32)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in gpt.parameters())


def test_compiled_form_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets, weights = 9 * torch.randn(5, 13), torch.tensor([[3], [0], [12], [5], [5]]), torch.rand(5, 1)
    plain = loss_and_gradient(logits.clone(), targets, weights)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(loss_and_gradient(logits.clone(), targets, weights), plain)


@pytest.mark.slow
@pytest.mark.usefixtures("on_gpu")
def test_one_compiled_graph_for_all_blocks() -> None:
    from torch._dynamo.testing import CompileCounter  # takes seconds to import

    gpt, counter = GPT(GPTConfig.from_options(2, 40, 16, width=32, heads=2)), CompileCounter()
    gpt.compiled_block = torch.compile(_run_block, dynamic=False, fullgraph=True, backend=counter)
    for step in range(3):
        ids, targets = torch.randint(40, (2, 3, 16), generator=torch.Generator().manual_seed(step))
        with torch.autocast("cpu", torch.bfloat16):
            loss = gpt.loss(ids, targets, torch.full((3, 16), 1 / 48))[0]
            with torch.no_grad():
                gpt.losses(ids[:, : 5 + step], targets[:, : 5 + step])  # rows of any length are scored without
        loss.backward()
    assert counter.frame_count == 1
