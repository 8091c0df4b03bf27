"""What followed when the last tokens stood in the same text before."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def last_repeat(text: Tensor, new: int, longest: int) -> tuple[Tensor, Tensor]:
    """The place of the same text that agrees with its end on the most tokens; of several, the last one.

    Names and rare words come again where they came once. Compressors know that as a match model (Mahoney 2005, Florida
    Tech CS-2005-16), language models as a cache (Kuhn and De Mori, IEEE PAMI 12, 1990). Attention learns it as well,
    but late (:class:`~nanochat.model.ngrams.NgramEmbedding` says how).

    Args:
        text: (batch, time), int64.
        new: how many of its last tokens are asked about, each with those before it.
        longest: tokens to compare, at most.

    Returns:
        How many tokens agree, from 0 to ``longest``, and the token that followed them: both (batch, new), int64. Where
        no token agrees, nothing is to be read from the second.
    """
    time = text.size(1)
    places = torch.arange(time, device=text.device)
    agree = (places < places[time - new :, None]).repeat(text.size(0), 1, 1)  # (batch, new, time): only what is before
    length = torch.zeros(agree.shape, dtype=torch.int32, device=text.device)
    for back in range(min(longest, time)):
        # what is before the beginning agrees with nothing, not even with itself
        ours = F.pad(text, (back, 0), value=-1)[:, time - new : time]
        theirs = F.pad(text, (back, 0), value=-2)[:, :time]
        agree &= ours.unsqueeze(2) == theirs.unsqueeze(1)
        length += agree
    found = (length * time).add_(places.int()).argmax(2)
    follower = (found + 1).clamp_(max=time - 1)
    return length.gather(2, found.unsqueeze(2)).squeeze(2).long(), text.gather(1, follower)
