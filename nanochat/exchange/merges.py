"""From the order of tokens to the pairs that are merged: tiktoken keeps the one, the tokenizers library the other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

Pair = tuple[bytes, bytes]


def last_merge(token: bytes, ranks: Mapping[bytes, int]) -> Pair | None:
    """The two tokens that become ``token`` in the last merge of its own bytes; None if no merging ends in it.

    tiktoken merges any two neighbours whose joint bytes are a token, the lowest rank first and among equals the
    leftmost. The merges inside a stretch of text that becomes one token are those of that stretch alone: a merge
    across its border would have divided it. So each token comes about by one pair only, the one found here, and a
    list of these pairs in the order of their tokens' ranks merges every text as tiktoken does, repetitive ones too.

    Args:
        token: at least two bytes.
        ranks: each token's bytes with its place in the order of merging.
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
    """The pair of each token that merging can reach, in the order of merging."""
    ordered = sorted(ranks, key=ranks.__getitem__)
    pairs = ((token, last_merge(token, ranks)) for token in ordered if len(token) > 1)
    return {token: pair for token, pair in pairs if pair is not None}
