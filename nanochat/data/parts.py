"""What may be counted of a text while a part of it is learned from: all the others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanochat.data.packing import Stretch, TokenStream

# Seven eighths say half a percent less than all of a text, sixteenths of it a third of that; but with each part that
# training comes to, all others are counted anew, which takes two seconds.
PARTS = 8


class Part(NamedTuple):
    """A stream's tokens from one place to another, within one of its stretches."""

    start: int
    end: int


class Parts:
    """The text that n-grams are counted in, cut into parts.

    Counts of a text know all of it: whatever follows there, they have seen. Who learned beside them what is left to
    learn would find that nothing is. So an eighth of the text is left out at a time, while it is learned from ("deleted
    estimation", Jelinek and Mercer 1980): then the counts are as sure and as unsure of it as of any other text.

    Args:
        stream: from its beginning.
        most: tokens of it to count, if there are so many; none of them twice.
    """

    def __init__(self, stream: TokenStream, most: int) -> None:
        self._stream, self._tokens = stream, stream.first_pass(most)
        self._stretches: list[Stretch] = []
        place = 0
        while place < self._tokens:
            self._stretches.append(stream.locate(place))
            place = self._stretches[-1].end

    def around(self, place: int, stream: TokenStream) -> Part | None:
        """The part that what is learned from at a place lies in, but for the last rows of a step at its end.

        Args:
            place: in the stream.
            stream: as above; it need not know its beginning.

        Returns:
            None if nothing is counted there.
        """
        stretch = stream.locate(place)
        if all(stretch.piece != counted.piece for counted in self._stretches):
            return None
        size = stretch.end - stretch.start
        size = -(-size // max(1, round(size * PARTS / self._tokens)))
        start = stretch.start + (place - stretch.start) // size * size
        return Part(start, min(start + size, stretch.end))

    def others(self, part: Part | None, stream: TokenStream) -> NDArray[Any]:
        """The tokens to count: all, but for those of a part, whichever pass over the text it belongs to.

        Args:
            part: of the stream; None to leave out nothing.
            stream: as above.

        Returns:
            Them in the order in which they lie in the files.
        """
        texts = []
        for counted in self._stretches:
            file, begins, ends = self._stream.spans(counted, counted.start, min(counted.end, self._tokens))
            wanted = _marks(len(file.tokens), begins, ends)
            if part is not None and (stretch := stream.locate(part.start)).piece == counted.piece:
                _, begins, ends = stream.spans(stretch, part.start, part.end)
                wanted &= ~_marks(len(file.tokens), begins, ends)
            texts.append(file.tokens[wanted])
            file.let_go()
        return np.concatenate(texts)


def _marks(size: int, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of so many numbers lie in one of the spans, none of which overlap."""
    edges = np.zeros(size + 1, np.int8)
    np.add.at(edges, begins, 1)  # one span may begin where another ends
    np.add.at(edges, ends, -1)
    return np.cumsum(edges[:-1], dtype=np.int8).astype(bool)
