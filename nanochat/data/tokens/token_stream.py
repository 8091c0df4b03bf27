"""The endless stream of tokens to train on: documents packed without padding, in a shuffled order."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanochat.data.tokens.shards import ShardId, TokenShards
from nanochat.data.tokens.shuffle import shuffled
from nanochat.data.tokens.token_files import TokenFile


class Segment(NamedTuple):
    """The part of the stream that comes from one shard in one epoch.

    Attributes:
        epoch: number of the pass over the corpus, from 0.
        shard: the shard.
        start: position in the stream, in tokens, of its first token.
        end: position after its last token.
    """

    epoch: int
    shard: ShardId
    start: int
    end: int

    def to_state(self) -> list[Any]:
        """Plain values for a checkpoint."""
        return [self.epoch, list(self.shard), self.start, self.end]

    @classmethod
    def from_state(cls, state: list[Any]) -> Segment:
        """The segment that :meth:`to_state` returned."""
        epoch, (text_shard, span), start, end = state
        return cls(epoch, (text_shard, span), start, end)


class TokenStream:
    """An endless stream of tokens: all documents in a shuffled order, then all again in another order, and so on.

    The stream is a function of the seed and the position: any process can read any part, and training can resume
    anywhere. Its only state is a cache of the segments found so far.

    Args:
        shards: of the corpus.
        seed: of the order.
        origin: a segment known from an earlier run. The stream before it need not be located again, and cannot be
            read. None starts at the beginning.
    """

    def __init__(self, shards: TokenShards, seed: int, origin: Segment | None = None) -> None:
        self.shards, self.seed = shards, seed
        self._segments = [origin] if origin is not None else []
        self._open = lru_cache(maxsize=2)(self._open_segment)

    def segment_at(self, position: int) -> Segment:
        """The segment that contains a position of the stream."""
        while not self._segments or self._segments[-1].end <= position:
            self._segments.append(self._next_segment())
        index = bisect_right(self._segments, position, key=lambda segment: segment.start) - 1
        assert index >= 0, f"position {position} lies before the origin of this stream"
        return self._segments[index]

    def _next_segment(self) -> Segment:
        last = self._segments[-1] if self._segments else None
        epoch, shard, start = (last.epoch, last.shard, last.end) if last is not None else (0, None, 0)
        epochs_ended = 0  # since the last segment
        while epochs_ended < 2:
            shard = self.shards.after(self.seed, epoch, shard)
            if shard is None:
                epoch, epochs_ended = epoch + 1, epochs_ended + 1
            elif size := self.shards.size(shard):
                return Segment(epoch, shard, start, start + size)
        raise ValueError("the corpus is empty: there is no text to train on")

    def _open_segment(self, segment: Segment) -> tuple[TokenFile, NDArray[np.int64], NDArray[np.int64]]:
        """The shard's file, its documents in the order of the epoch, and the end of each document in the segment."""
        file = self.shards.open(segment.shard)
        order = shuffled(file.documents, self.seed, segment.epoch, *segment.shard)
        return file, order, np.cumsum(np.diff(file.starts)[order])

    def _ranges(self, segment: Segment, start: int, end: int) -> tuple[TokenFile, list[int], list[int]]:
        """The token file that holds the positions ``start`` to ``end`` of a segment, and where they lie in it.

        Returns:
            The file, and the begin and the end of each document, or part of a document, in the order of the stream.
        """
        file, order, ends = self._open(segment)
        start, end = start - segment.start, end - segment.start
        first, last = np.searchsorted(ends, (start, end - 1), side="right")
        documents = order[first : last + 1]
        begins, finishes = file.starts[documents], file.starts[documents + 1]
        begins[0] = finishes[0] - (ends[first] - start)
        finishes[-1] -= ends[last] - end
        return file, begins.tolist(), finishes.tolist()

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """The ``count`` tokens from position ``start`` on: (count,)."""
        out = np.empty(count, dtype=np.int64)
        filled = 0
        while filled < count:
            segment = self.segment_at(start + filled)
            file, begins, ends = self._ranges(segment, start + filled, min(start + count, segment.end))
            for begin, end in zip(begins, ends, strict=True):
                out[filled : filled + end - begin] = file.tokens[begin:end]
                filled += end - begin
        return out
