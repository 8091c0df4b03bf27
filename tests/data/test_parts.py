"""What is counted while a part of the text is learned from: all of it but that part, in every pass over the text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.data.packing import TokenStream
from nanochat.data.parts import PARTS, Parts
from tests.data.test_packing import LENGTHS, PiecesInMemory


@given(LENGTHS, st.integers(1, 4), st.integers(1, 400), st.integers(0, 5), st.integers(0, 1500))
def test_all_is_counted_but_what_is_learned(lengths: list[int], pieces: int, most: int, seed: int, place: int) -> None:
    text = PiecesInMemory(lengths, pieces)  # of which no two tokens are the same
    stream, parts = TokenStream(text, seed), Parts(TokenStream(text, seed), most)
    counted = set(stream.read(0, min(most, text.tokens)).tolist())
    assert sorted(parts.others(None, stream).tolist()) == sorted(counted)
    part = parts.around(place, stream)
    if part is None:  # that is a piece of which nothing is counted
        stretch = stream.locate(place)
        assert not counted & set(stream.read(stretch.start, stretch.end - stretch.start).tolist())
        return
    assert part.start <= place < part.end
    assert parts.around(part.start, stream) == parts.around(part.end - 1, stream) == part
    learned = set(stream.read(part.start, part.end - part.start).tolist())
    others = parts.others(part, stream)
    assert len(others) == len(set(others.tolist()))
    assert set(others.tolist()) == counted - learned


@pytest.mark.parametrize("pieces", [1, 2, 8])
def test_parts_are_an_eighth_of_the_text_each(pieces: int) -> None:
    text = PiecesInMemory([7] * 800, pieces)
    stream = TokenStream(text, 0)
    parts = Parts(TokenStream(text, 0), 10**6)
    seen = {parts.around(place, stream) for place in range(text.tokens)}
    assert len(seen) == PARTS
    assert {part.end - part.start for part in seen if part is not None} == {700}


def test_a_stream_that_goes_on_need_not_know_its_beginning() -> None:
    text = PiecesInMemory([7] * 800, 4)
    whole, parts = TokenStream(text, 0), Parts(TokenStream(text, 0), 10**6)
    place = text.tokens + 3000  # in the second pass
    later = TokenStream(text, 0, whole.locate(place))
    part = parts.around(place, whole)
    assert part is not None
    assert parts.around(place, later) == part
    assert np.array_equal(parts.others(part, later), parts.others(part, whole))
