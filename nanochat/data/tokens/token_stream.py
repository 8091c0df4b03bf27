"""The endless stream of tokens to train on: documents packed without padding, in a shuffled order."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanochat.data.tokens.shards import Piece, Pieces
from nanochat.data.tokens.shuffle import shuffled
from nanochat.data.tokens.token_files import TokenFile


class Stretch(NamedTuple):
    """A piece at its place in the stream.

    Attributes:
        epoch: which pass over the corpus.
        piece: which piece.
        start: place in the stream, in tokens, of its first token.
        end: place after its last token.
    """

    epoch: int
    piece: Piece
    start: int
    end: int


class TokenStream:
    """An endless stream of tokens: all documents in a shuffled order, then all again in another, and so on.

    It is a function of the seed and the place in it: any process can read any part, and training resumes anywhere.
    What it remembers is only where the pieces lie that it has come across.

    Args:
        pieces: of the corpus.
        seed: of the order.
        origin: a stretch that is known from an earlier run: what lies before it need not be looked at again, but
            cannot be read either. None begins at the beginning.
    """

    def __init__(self, pieces: Pieces, seed: int, origin: Stretch | None = None) -> None:
        self.pieces, self.seed = pieces, seed
        self._stretches = [origin] if origin is not None else []
        self._open = lru_cache(maxsize=2)(self._open_stretch)

    def locate(self, place: int) -> Stretch:
        """The stretch in which a place of the stream lies."""
        while not self._stretches or self._stretches[-1].end <= place:
            self._stretches.append(self._next_stretch())
        index = bisect_right(self._stretches, place, key=lambda stretch: stretch.start) - 1
        assert index >= 0, f"place {place} lies before the origin of this stream"
        return self._stretches[index]

    def _next_stretch(self) -> Stretch:
        last = self._stretches[-1] if self._stretches else None
        epoch, piece, start = (last.epoch, last.piece, last.end) if last is not None else (0, None, 0)
        ends = 0  # of epochs since the last stretch
        while ends < 2:
            piece = self.pieces.after(self.seed, epoch, piece)
            if piece is None:
                epoch, ends = epoch + 1, ends + 1
            elif size := self.pieces.size(piece):
                return Stretch(epoch, piece, start, start + size)
        raise ValueError("there is nothing to train on: the corpus is empty")

    def _open_stretch(self, stretch: Stretch) -> tuple[TokenFile, NDArray[np.int64], NDArray[np.int64]]:
        """A piece, its documents in the order of the epoch, and where in the piece each of them ends."""
        file = self.pieces.open(stretch.piece)
        order = shuffled(file.documents, self.seed, stretch.epoch, *stretch.piece)
        return file, order, np.cumsum(np.diff(file.starts)[order])

    def spans(self, stretch: Stretch, start: int, end: int) -> tuple[TokenFile, NDArray[np.int64], NDArray[np.int64]]:
        """Where the tokens between two places of the stream lie, which are both in one stretch.

        Returns:
            The file, and the places in it at which each of their documents begins and ends, (documents,) each.
        """
        file, order, ends = self._open(stretch)
        start, end = start - stretch.start, end - stretch.start
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
            stretch = self.locate(start + filled)
            file, begins, ends = self.spans(stretch, start + filled, min(start + count, stretch.end))
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                out[filled : filled + end - begin] = file.tokens[begin:end]
                filled += end - begin
        return out

    def row(self, index: int, length: int) -> NDArray[np.int64]:
        """Row ``index`` of the stream when it is cut into rows of ``length`` tokens: none lost, none twice."""
        return self.read(index * length, length)
