"""Counting: what is counted is what the formula says, and it is added where it belongs."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from nanochat.model import GPT, counting
from nanochat.model.counted import CountedNgrams
from nanochat.model.counting import SEEN_AT_LEAST, SINGLES_UP_TO, count, discounts, longest_countable

VOCAB, LONGEST = 7, 3


def text(size: int = 400, seed: int = 0) -> np.ndarray:
    """Tokens of which each depends on the two before it, more or less."""
    rng, ids = np.random.default_rng(seed), [1, 2]
    for _ in range(size - 2):
        ids.append((ids[-1] * 2 + ids[-2] + int(rng.integers(0, 3))) % VOCAB)
    return np.array(ids, np.int32)


def filled(ids: np.ndarray, longest: int = LONGEST) -> CountedNgrams:
    counted = CountedNgrams(longest, VOCAB)
    counted.count(ids)
    torch.nn.init.ones_(counted.trust)
    return counted


class Formula:
    """Kneser and Ney's smoothing, straight from the definition, with dictionaries."""

    def __init__(self, ids: list[int], longest: int) -> None:
        self.followers: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(longest + 1)]
        for place in range(longest, len(ids)):
            self.followers[longest][tuple(ids[place - longest : place])][ids[place]] += 1
        for length in range(longest - 1, 0, -1):  # in how many longer contexts a token follows
            for context, seen in self.followers[length + 1].items():
                self.followers[length][context[1:]].update(seen.keys())
        self.shares = np.bincount(ids, minlength=VOCAB) / len(ids)
        flat = [[c for seen in level.values() for c in seen.values()] for level in self.followers]
        self.taken = [discounts(np.array(level, np.int32)) for level in flat]

    def p(self, token: int, context: tuple[int, ...]) -> float:
        """Of a token after a context."""
        if not context:
            return float(self.shares[token])
        shorter = self.p(token, context[1:])
        counts = self.followers[len(context)].get(context, Counter())
        if counts.total() < SEEN_AT_LEAST:
            return shorter
        taken = self.taken[len(context)]
        rest = sum(taken[min(c, 3)] for c in counts.values())
        return float((counts[token] - taken[min(counts[token], 3)] + rest * shorter) / counts.total())


def test_the_shares_are_those_of_the_formula() -> None:
    ids = text()
    counted, formula = filled(ids), Formula(ids.tolist(), LONGEST)
    read = torch.from_numpy(ids[:60]).long()
    said = counted(read[None]).softmax(-1)
    for place in range(LONGEST - 1, 60):
        context = tuple(ids[place - LONGEST + 1 : place + 1].tolist())
        expected = [formula.p(token, context) for token in range(VOCAB)]
        assert sum(expected) == pytest.approx(1)
        assert said[place].tolist() == pytest.approx(expected, rel=5e-3)  # gains are kept in float16


def test_a_token_is_likely_where_it_follows_much_not_where_it_follows_often() -> None:
    """3 follows 1, often, but always after 2; 4 follows 1 seldom, but after anything."""
    rng = np.random.default_rng(0)
    ids = [token for _ in range(300) for token in ([2, 1, 3] if rng.random() < 0.7 else [int(rng.integers(7)), 1, 4])]
    said = filled(np.array(ids, np.int32), longest=2)(torch.tensor([[1], [2]])).softmax(-1)
    assert said[0, 4] > said[0, 3]
    assert filled(np.array(ids, np.int32), longest=1)(torch.tensor([[1]])).argmax() == 3


def test_a_token_that_is_not_in_the_text_can_still_be_said() -> None:
    ids = np.random.default_rng(0).integers(0, 100, 100_000)
    shares = count(ids, 128, 2).shares
    assert np.exp(shares).sum() == pytest.approx(1)
    assert np.exp(shares[100:]) == pytest.approx(1 / 128 / 32, rel=0.02)
    assert np.exp(shares[:100]) == pytest.approx(0.01, rel=0.2)


def test_threads_share_the_work_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "AT_ONCE", 60)
    one, many = (count(text(), VOCAB, LONGEST, threads) for threads in (1, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))
    for begin, end in itertools.pairwise(one.levels):
        assert np.all(np.diff(one.contexts[begin:end]) > 0)
    assert one.first[-1] == len(one.tokens) == len(one.gains)


def test_what_came_before_may_be_told_in_pieces() -> None:
    counted, ids = filled(text()), torch.from_numpy(text(seed=1)[:18]).long().view(2, 9)
    whole = counted(ids).view(2, 9, VOCAB)
    for cut in range(1, 9):
        parts = [counted(ids[:, :cut]).view(2, cut, VOCAB), counted(ids[:, cut:], ids[:, :cut]).view(2, 9 - cut, VOCAB)]
        torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_a_row_begins_with_no_context_but_its_own() -> None:
    counted, ids = filled(text()), torch.from_numpy(text()[:6]).long()[None]
    _, seen = counted.known(ids)
    assert seen[0].all()
    assert not seen[1, 0]
    assert not seen[2, :2].any()


def test_the_gradient_of_the_trust_is_that_of_differences() -> None:
    counted = filled(text())
    ids, weights = torch.from_numpy(text(seed=2)[:50]).long()[None], torch.randn(50, VOCAB, dtype=torch.float32)
    (counted(ids) * weights).sum().backward()
    assert counted.trust.grad is not None
    used = counted.trust.grad.nonzero().flatten().tolist()
    assert len(used) > 5
    for index in used:
        with torch.no_grad():
            sums = []
            for change in (1e-2, -1e-2):
                counted.trust[index] += change
                sums.append(float((counted(ids).double() * weights).sum()))
                counted.trust[index] -= change
        assert float(counted.trust.grad[index]) == pytest.approx((sums[0] - sums[1]) / 2e-2, rel=1e-3, abs=1e-3)


def test_what_followed_a_long_context_once_is_left_out() -> None:
    ids = np.random.default_rng(0).integers(0, VOCAB, 2000)
    counts, seen = count(ids, VOCAB, 5), Formula(ids.tolist(), 5).followers
    sizes = np.diff(counts.first)
    assert np.all(sizes > 0)  # no context is kept for nothing
    for length, (begin, end) in enumerate(itertools.pairwise(counts.levels), 1):
        least = 1 if length <= SINGLES_UP_TO else 2
        of_known = [s for s in seen[length].values() if s.total() >= SEEN_AT_LEAST]
        assert sizes[begin:end].sum() == sum(c >= least for s in of_known for c in s.values())


def test_what_follows_often_becomes_likely() -> None:
    ids = np.tile(np.array([1, 2, 3, 4, 1, 2, 5, 6], np.int32), 50)
    said = filled(ids)(torch.tensor([[4, 1, 2]])).softmax(-1)[-1]
    assert said[5] > 0.9  # after 4 1 2; after 1 2 alone 3 and 5 are as likely
    said = filled(ids)(torch.tensor([[1, 2]])).softmax(-1)[-1]
    assert said[3].item() == pytest.approx(said[5].item(), rel=0.05)


@pytest.mark.parametrize("vocab_size", [300, 4096, 65536])
def test_as_long_as_its_contexts_may_be_nothing_overflows(vocab_size: int) -> None:
    longest = longest_countable(vocab_size)
    assert vocab_size ** (longest + 1) < 2**63 <= vocab_size ** (longest + 2)
    ids = np.random.default_rng(0).integers(vocab_size - 4, vocab_size, 500)
    counts = count(ids, vocab_size, longest)
    assert counts.contexts.min() >= 0
    assert np.isfinite(counts.gains).all()
    with pytest.raises(ValueError, match=f"at most {longest} tokens.*--model.counted"):
        count(ids, vocab_size, longest + 1)


def test_a_vocabulary_that_is_too_large_says_so() -> None:
    with pytest.raises(ValueError, match=r"65,536.*--model\.counted=0"):
        GPT(1, 65536, 32, width=32, heads=2, counted=2)


def test_a_text_that_is_too_short_says_so() -> None:
    with pytest.raises(ValueError, match=r"too short.*--model\.counted"):
        count(np.arange(3), VOCAB, 3)


def test_before_anything_is_counted_nothing_is_added() -> None:
    assert not CountedNgrams(2, VOCAB)(torch.tensor([[1, 2, 3]])).any()


def model(longest: int = LONGEST) -> GPT:
    torch.manual_seed(0)
    gpt = GPT(2, VOCAB, 64, width=32, heads=2, counted=longest)
    for p in gpt.parameters():
        torch.nn.init.normal_(p, std=0.3)
    assert gpt.counted is not None
    gpt.counted.count(text())
    return gpt


def test_the_loss_is_that_of_the_logits() -> None:
    gpt, ids = model(), torch.from_numpy(text(seed=3)[:41]).long()
    read, targets = ids[:-1].view(2, 20), ids[1:].view(2, 20)
    expected = torch.nn.functional.cross_entropy(gpt(read).flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(gpt.losses(read, targets).flatten(), expected)
    loss, losses = gpt.loss(read, targets, torch.full((2, 20), 1 / 40))
    torch.testing.assert_close(losses.flatten(), expected)
    loss.backward()
    ours = {name: p.grad.clone() for name, p in gpt.named_parameters() if p.grad is not None}
    gpt.zero_grad()
    expected.mean().backward()
    assert set(ours) == {name for name, _ in gpt.named_parameters()}
    for name, p in gpt.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, rtol=1e-4, atol=1e-6)


def test_a_model_remembers_what_was_counted() -> None:
    gpt, ids = model(), torch.from_numpy(text(seed=4)[:20]).long()[None]
    other = GPT(2, VOCAB, 64, width=32, heads=2, counted=LONGEST)
    other.load_state_dict(gpt.state_dict())
    torch.testing.assert_close(other(ids), gpt(ids))
    with torch.device("meta"):
        empty = GPT(2, VOCAB, 64, width=32, heads=2, counted=LONGEST)
    empty.load_state_dict(gpt.state_dict(), assign=True)
    empty.cos, empty.sin = gpt.cos, gpt.sin
    torch.testing.assert_close(empty(ids), gpt(ids))


def test_a_cache_reads_on_as_if_nothing_were_cut() -> None:
    gpt, ids = model(), torch.from_numpy(text(seed=5)[:24]).long().view(2, 12)
    whole, cache = gpt(ids), gpt.new_cache(2)
    parts = [gpt(ids[:, begin:end], cache) for begin, end in ((0, 5), (5, 6), (6, 12))]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-4)
