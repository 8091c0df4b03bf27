"""The endless stream of tokens to train on: documents packed without padding, in a shuffled order."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanochat.data.tokens.shards import ShardId, TokenShards
from nanochat.data.tokens.shuffle import shuffled
from nanochat.data.tokens.token_files import TokenFile


class Segment(NamedTuple):
    """A shard at its place in the stream.

    Attributes:
        epoch: which pass over the corpus.
        shard: which shard.
        start: place in the stream, in tokens, of its first token.
        end: place after its last token.
    """

    epoch: int
    shard: ShardId
    start: int
    end: int


class TokenStream:
    """An endless stream of tokens: all documents in a shuffled order, then all again in another, and so on.

    It is a function of the seed and the place in it: any process can read any part, and training resumes anywhere.
    What it remembers is only where the shards lie that it has come across.

    Args:
        shards: of the corpus.
        seed: of the order.
        origin: a segment that is known from an earlier run: what lies before it need not be looked at again, but
            cannot be read either. None begins at the beginning.
    """

    def __init__(self, shards: TokenShards, seed: int, origin: Segment | None = None) -> None:
        self.shards, self.seed = shards, seed
        self._segments = [origin] if origin is not None else []
        self._open = lru_cache(maxsize=2)(self._open_segment)

    def locate(self, place: int) -> Segment:
        """The segment in which a place of the stream lies."""
        while not self._segments or self._segments[-1].end <= place:
            self._segments.append(self._next_segment())
        index = bisect_right(self._segments, place, key=lambda segment: segment.start) - 1
        assert index >= 0, f"place {place} lies before the origin of this stream"
        return self._segments[index]

    def _next_segment(self) -> Segment:
        last = self._segments[-1] if self._segments else None
        epoch, shard, start = (last.epoch, last.shard, last.end) if last is not None else (0, None, 0)
        ends = 0  # of epochs since the last segment
        while ends < 2:
            shard = self.shards.after(self.seed, epoch, shard)
            if shard is None:
                epoch, ends = epoch + 1, ends + 1
            elif size := self.shards.size(shard):
                return Segment(epoch, shard, start, start + size)
        raise ValueError("there is nothing to train on: the corpus is empty")

    def _open_segment(self, segment: Segment) -> tuple[TokenFile, NDArray[np.int64], NDArray[np.int64]]:
        """A shard, its documents in the order of the epoch, and where in the shard each of them ends."""
        file = self.shards.open(segment.shard)
        order = shuffled(file.documents, self.seed, segment.epoch, *segment.shard)
        return file, order, np.cumsum(np.diff(file.starts)[order])

    def spans(self, segment: Segment, start: int, end: int) -> tuple[TokenFile, NDArray[np.int64], NDArray[np.int64]]:
        """Where the tokens between two places of the stream lie, which are both in one segment.

        Returns:
            The file, and the places in it at which each of their documents begins and ends, (documents,) each.
        """
        file, order, ends = self._open(segment)
        start, end = start - segment.start, end - segment.start
        first, last = np.searchsorted(ends, (start, end - 1), side="right")
        documents = order[first : last + 1]
        begins, finishes = file.starts[documents], file.starts[documents + 1]
        begins[0] = finishes[0] - (ends[first] - start)
        finishes[-1] -= ends[last] - end
        return file, begins, finishes

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """``count`` tokens from place ``start`` of the stream on."""
        out = np.empty(count, dtype=np.int64)
        filled = 0
        while filled < count:
            segment = self.locate(start + filled)
            file, begins, ends = self.spans(segment, start + filled, min(start + count, segment.end))
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                out[filled : filled + end - begin] = file.tokens[begin:end]
                filled += end - begin
        return out

    def row(self, index: int, length: int) -> NDArray[np.int64]:
        """Row ``index`` of the stream when it is cut into rows of ``length`` tokens: none lost, none twice."""
        return self.read(index * length, length)
