"""Derives BPE merges from token ranks: tiktoken stores ranks, the tokenizers library stores merges."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

Pair = tuple[bytes, bytes]


def last_merge(token: bytes, ranks: Mapping[bytes, int]) -> Pair | None:
    """The two tokens that the last merge joins to ``token``; None if merging its bytes never gives it.

    tiktoken merges any two neighbours whose concatenation is a token: the lowest rank first, and the leftmost among
    equals. The merges inside a part of a text that becomes one token do not depend on the rest of the text, because a
    merge across its border would have divided it. So each token results from one pair only, the one returned here, and
    the list of these pairs in the order of their tokens' ranks merges every text as tiktoken does.

    Args:
        token: at least two bytes.
        ranks: rank of each token in the order of merging.
    """
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joint = (ranks.get(left + right) for left, right in pairwise(parts))
        rank, place = min(((rank, i) for i, rank in enumerate(joint) if rank is not None), default=(None, 0))
        if rank is None:
            return None
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts[0], parts[1]


def last_merges(ranks: Mapping[bytes, int]) -> dict[bytes, Pair]:
    """The pair of each token that merging can produce, in the order of merging."""
    ordered = sorted(ranks, key=ranks.__getitem__)
    pairs = ((token, last_merge(token, ranks)) for token in ordered if len(token) > 1)
    return {token: pair for token, pair in pairs if pair is not None}
