"""What the same text said before: the right place is found, and what followed it becomes likelier."""

from __future__ import annotations

import torch

from nanochat.model.counted import CountedNgrams
from nanochat.model.counting import BUCKETS
from nanochat.model.repeats import last_repeat

LONGEST, VOCAB, REPEATS = 2, 5, 4


def by_hand(text: list[int], place: int, longest: int) -> tuple[int, int | None]:
    """The longest agreement with what ends at a place, and what followed its last occurrence."""
    for length in range(min(longest, place), 0, -1):
        for end in range(place - 1, length - 2, -1):
            if text[end - length + 1 : end + 1] == text[place - length + 1 : place + 1]:
                return length, text[end + 1]
    return 0, None


def some_text(batch: int = 3, time: int = 40) -> torch.Tensor:
    return torch.randint(VOCAB, (batch, time), generator=torch.Generator().manual_seed(0))


def filled(repeats: int = REPEATS) -> CountedNgrams:
    counted = CountedNgrams(LONGEST, VOCAB, repeats)
    counted.count(some_text(1, 400)[0].numpy())
    return counted


def test_the_last_of_the_longest_repeats_is_found() -> None:
    text = some_text()
    agree, follower = last_repeat(text, text.size(1), REPEATS)
    found = set()
    for row in range(text.size(0)):
        for place in range(text.size(1)):
            length, expected = by_hand(text[row].tolist(), place, REPEATS)
            assert int(agree[row, place]) == length
            assert expected is None or int(follower[row, place]) == expected
            found.add(length)
    assert found == set(range(REPEATS + 1))


def test_nothing_agrees_with_what_is_before_the_beginning() -> None:
    agree, _ = last_repeat(torch.tensor([[1, 2, 1, 2]]), 4, 8)
    assert agree.tolist() == [[0, 0, 1, 2]]


def test_a_text_in_parts_has_the_repeats_of_the_whole() -> None:
    text = some_text()
    whole = last_repeat(text, text.size(1), REPEATS)
    for new in (1, 7, 40):
        for all_of_it, end in zip(whole, last_repeat(text, new, REPEATS), strict=True):
            assert torch.equal(all_of_it[:, -new:], end)


def test_what_followed_becomes_likelier_by_the_gain_of_its_length() -> None:
    text, counted, plain = some_text(), filled(), filled(repeats=0)
    gains = torch.tensor([0.5, 1.5, 2.5, 3.5])
    with torch.no_grad():
        counted.trust[LONGEST * BUCKETS :] = gains
    added = (counted(text) - plain(text)).view(*text.shape, VOCAB)
    expected = torch.zeros_like(added)
    for row in range(text.size(0)):
        for place in range(text.size(1)):
            length, follower = by_hand(text[row].tolist(), place, REPEATS)
            if follower is not None:
                expected[row, place, follower] = gains[length - 1]
    torch.testing.assert_close(added, expected)
    torch.testing.assert_close(counted.after(text[0].tolist(), 39), counted(text[:1])[-1:])


def test_the_gains_are_learned() -> None:
    text, counted = some_text(), filled()
    weights = torch.randn(text.numel(), VOCAB, generator=torch.Generator().manual_seed(1))
    (counted(text) * weights).sum().backward()
    agree, follower = counted.repeated(text)
    at_follower = weights.gather(1, follower.unsqueeze(1)).squeeze(1)
    expected = torch.stack([at_follower[agree == length].sum() for length in range(1, REPEATS + 1)])
    assert counted.trust.grad is not None
    torch.testing.assert_close(counted.trust.grad[LONGEST * BUCKETS :], expected)
