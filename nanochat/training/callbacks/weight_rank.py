"""The effective rank of the weight matrices, logged at each validation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor

from nanochat.training.language_model import LanguageModel

PREFIX = "rank/"  # of the curves' names
KINDS = {  # the matrices of a block: title, and name in the model
    "query": "attn.c_q",
    "key": "attn.c_k",
    "value": "attn.c_v",
    "output": "attn.c_proj",
    "MLP, in": "mlp.c_fc",
    "MLP, out": "mlp.c_proj",
}


class WeightRank(Callback):
    """Logs the effective rank of each kind of matrix; the cost is one product of each matrix with its transpose."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            assert isinstance(pl_module, LanguageModel)
            ranks = effective_ranks(dict(pl_module.gpt.named_parameters()))
            pl_module.log_dict({PREFIX + KINDS[kind]: rank for kind, rank in ranks.items()}, sync_dist=True)


@torch.no_grad()
def effective_ranks(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The effective rank of each kind of matrix, averaged over the blocks.

    Args:
        weights: of a GPT, by parameter name. Sharded ones are gathered one by one.
    """
    return {
        kind: torch.stack([effective_rank(w) for name, w in weights.items() if name.endswith(f".{path}.weight")]).mean()
        for kind, path in KINDS.items()
    }


def effective_rank(matrix: Tensor) -> Tensor:
    """``sum(s^2)^2 / sum(s^4)`` over the singular values s: n if n are equal and the others 0; 0 for a zero matrix.

    This is the participation ratio (Bell and Dean, Discuss. Faraday Soc. 50, 1970) of s^2. It needs no decomposition:
    the s^2 add up to ``|W|^2``, and their squares to ``|W W^T|^2``, in Frobenius norms.
    """
    whole = (matrix.full_tensor() if isinstance(matrix, DTensor) else matrix).float()
    wide = whole if whole.size(0) <= whole.size(1) else whole.T
    return (wide.square().sum().square() / (wide @ wide.T).square().sum()).nan_to_num()
