"""Vectors for pairs and triples of tokens and for single predecessors, looked up beside those of the tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A rolling hash (Karp and Rabin, IBM J. Res. Dev. 31, 1987), modulo a prime below 2^31 so that no product overflows.
PRIME = 2**31 - 1
MULTIPLIER = 1_103_515_245


class NgramEmbedding(nn.Module):
    """What a token's predecessors say of what comes next, without any attention.

    With a small vocabulary a token is a letter or two, and the first thing that attention learns is to look one or two
    tokens back. A table of vectors for pairs ("th", "e") and triples knows that from the first steps on, and costs a
    lookup instead of a matrix product. There are too many pairs to give each a row of its own: they share the rows by
    a hash, and the model learns to live with collisions (as in BLT, arXiv 2412.09871, and Engram, arXiv 2601.07372).

    A pair's vector says nothing of a pair never seen. So the token before may have a vector of its own besides, one for
    each id: with it, a single head of attention can look for the place where the present token stood before, and say
    what followed it there. That is an induction head (arXiv 2209.11895), which otherwise takes two layers and a long
    time to form, and it is what copying a word or a number takes.

    Args:
        longest: tokens in the longest n-gram: 2 for pairs, 3 for pairs and triples.
        slots: rows of the table for each length.
        width: of the residual stream.
        predecessors: how many of the tokens before have a vector by themselves, each by how far back it stands: 1 for
            the last one. At most ``longest - 1``.
        vocab_size: number of token ids, which is wanted for predecessors.

    Attributes:
        sparse: whether the gradient names only the rows that were looked up, instead of the whole table: much faster
            on a CPU, but not understood by every way to train on many devices.
    """

    def __init__(self, longest: int, slots: int, width: int, predecessors: int = 0, vocab_size: int = 0) -> None:
        super().__init__()
        if longest < 2 or slots < 1:
            raise ValueError(f"n-grams need a length of at least 2 and at least 1 slot, not {longest} and {slots}")
        if not 0 <= predecessors < longest:
            raise ValueError(
                f"of the tokens before, 0 to {longest - 1} may have vectors beside n-grams of {longest}, "
                f"not {predecessors}"
            )
        self.longest, self.slots = longest, slots
        self.predecessors, self.ids = predecessors, vocab_size + 1  # 0 stands for what is before the beginning
        rows = (longest - 1) * slots + predecessors * self.ids
        self.table = nn.Parameter(torch.zeros(rows, width))  # at first, n-grams say nothing
        self.sparse = False

    def rows(self, ids: Tensor, before: Tensor | None = None) -> Tensor:
        """The rows of the table for the n-grams that end at each token.

        Args:
            ids: (batch, time), int64.
            before: (batch, any number), int64: the tokens before these; None if there are none.

        Returns:
            (batch, time, rows_per_token), int64: those of the n-grams, and behind them those of the predecessors.
        """
        known = ids if before is None else torch.cat((before[:, max(0, before.size(1) - self.longest + 1) :], ids), 1)
        time, missing = ids.size(1), self.longest - 1 + ids.size(1) - known.size(1)
        known = F.pad(known + 1, (missing, 0))  # 0 is no token's: what stands before the beginning
        hashes = known[:, self.longest - 1 :]
        rows, single = [], []
        for back in range(1, self.longest):
            earlier = known[:, self.longest - 1 - back :][:, :time]
            hashes = (hashes * MULTIPLIER + earlier) % PRIME
            rows.append(hashes % self.slots + (back - 1) * self.slots)
            if back <= self.predecessors:
                single.append(earlier + self.first_row_of(back))
        return torch.stack(rows + single, -1)

    def first_row_of(self, back: int) -> int:
        """Where in the table the vectors for the token so many places back begin."""
        return (self.longest - 1) * self.slots + (back - 1) * self.ids

    @property
    def rows_per_token(self) -> int:
        """How many vectors are added up for each token."""
        return self.longest - 1 + self.predecessors

    def rows_at(self, ids: Sequence[int], place: int) -> list[int]:
        """:meth:`rows` for a single place in a text, in plain numbers: for one token 1 instead of 49 us.

        Args:
            ids: the text.
            place: index of the token at which the n-grams end.

        Returns:
            ``rows_per_token`` rows.
        """
        rows, single, hashes = [], [], ids[place] + 1
        for back in range(1, self.longest):
            earlier = ids[place - back] + 1 if back <= place else 0
            hashes = (hashes * MULTIPLIER + earlier) % PRIME
            rows.append(hashes % self.slots + (back - 1) * self.slots)
            if back <= self.predecessors:
                single.append(earlier + self.first_row_of(back))
        return rows + single

    def forward(self, ids: Tensor, before: Tensor | None = None) -> Tensor:
        """The sum of the vectors of a token's n-grams: (batch, time, width); arguments as in :meth:`rows`."""
        rows = self.rows(ids, before)
        vectors = F.embedding_bag(rows.flatten(0, 1), self.table, mode="sum", sparse=self.sparse)
        return vectors.view(*ids.shape, -1)
