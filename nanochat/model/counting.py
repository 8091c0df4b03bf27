"""Counting n-grams: what follows which tokens in a text, and how much that says.

The method is interpolated absolute discounting with three discounts (Ney, Essen and Kneser 1994; the estimate of the
discounts is Chen and Goodman's, Computer Speech and Language 13, 1999, without their continuation counts): of ``c``
occurrences of a token after a context of ``N``, a little is taken away and given to what the context shortened by its
oldest token says,

    p(token | context) = (c - D(c)) / N + rest(context) p(token | shorter),    rest = sum of the D of the context / N.

So ``p`` is ``rest`` times the shorter context's, but for the tokens that were seen: these are likelier by a factor
``1 + (c - D) / (N rest p(token | shorter))``. Its logarithm is the entry's *gain*, in nats. A softmax does not mind a
factor that is the same for all tokens: the logits of such a model are those of the single tokens, plus the gains of
all entries of all contexts that end here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SEEN_AT_LEAST = 2  # times that a context must have been seen: what followed a single time says next to nothing
# Of longer contexts, what followed a single time is left out: it takes a quarter of the memory, and brings 0.2 to 0.3 %
# of what counting says (prose, vocabulary 512).
SINGLES_UP_TO = 3
# A token is taken to have at least so much of an equal share. The special tokens that later stages learn are not in the
# text at all: what the model says of them is capped, and could hardly make up for a share of next to nothing.
RAREST = 1 / 32
AT_ONCE = 1_000_000  # places in the text, by each thread: 100 MB
BUCKETS = 12  # contexts are told apart by how often they were seen: once or twice, up to 4 times, 8, ... 2048 or more


class Level(NamedTuple):
    """The contexts of one length, and what was seen after each.

    Attributes:
        contexts: (contexts,), int64, ascending: the tokens as digits, the latest one first.
        first: (contexts + 1,), int64: at which entry those of each context begin.
        buckets: (contexts,), uint8: log2 of how often it was seen, at most ``BUCKETS - 1``.
        tokens: (entries,), int32: what was seen.
        gains: (entries,), float32, in nats: how much likelier it is than the shorter context says.
        without: (entries,), the same, had the text one such place less: for learning from that very place.
    """

    contexts: NDArray[np.int64]
    first: NDArray[np.int64]
    buckets: NDArray[np.uint8]
    tokens: NDArray[np.int32]
    gains: NDArray[np.float32]
    without: NDArray[np.float32]


def longest_countable(vocab_size: int) -> int:
    """How many tokens a context may have, so that it and what follows fit into 63 bits."""
    return int(63 / np.log2(vocab_size)) - 1


def count(
    tokens: NDArray[np.integer[Any]], vocab_size: int, longest: int, threads: int = 1
) -> tuple[NDArray[np.float32], list[Level]]:
    """Counts a text.

    Contexts that end in different tokens have nothing to do with each other: a few at a time are counted, so that
    little memory is needed besides the result, and several threads may share the work.

    Args:
        tokens: the text; more than ``longest`` of them.
        vocab_size: number of token ids.
        longest: tokens in the longest context.
        threads: that count.

    Returns:
        The logarithms of the shares of single tokens, (vocab_size,), and a level for each length from 1 on.

    Raises:
        ValueError: if the contexts are too long for this vocabulary, or the text is too short.
    """
    if longest > (most := longest_countable(vocab_size)):
        raise ValueError(
            f"with {vocab_size:,} tokens in the vocabulary, contexts of at most {most} tokens can be counted, not "
            f"{longest} (--model.counted)"
        )
    if len(tokens) <= longest:
        raise ValueError(
            f"a text of {len(tokens)} tokens is too short to count contexts of {longest} (--model.counted)"
        )
    shares = shares_of(tokens, vocab_size)

    def part(ids: tuple[int, int]) -> list[Level]:
        latest = tokens[longest - 1 : -1]
        places = np.flatnonzero((latest >= ids[0]) & (latest < ids[1])) + longest - 1
        return _count_at(places, tokens, shares, vocab_size, longest)

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(part, _ranges(np.bincount(tokens[longest - 1 : -1], minlength=vocab_size))))
    together = [_together([levels[length] for levels in parts]) for length in range(longest)]
    return np.log(shares).astype(np.float32), together


def shares_of(tokens: NDArray[np.integer[Any]], vocab_size: int) -> NDArray[np.float64]:
    """The share of each token in a text, those that are not in it included: (vocab_size,)."""
    times = np.maximum(np.bincount(tokens, minlength=vocab_size), len(tokens) * RAREST / vocab_size)
    return times / times.sum()


def _ranges(times: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The ids in ranges, so that the tokens of each are about ``AT_ONCE`` in the text, or more only if of one id."""
    ranges, begin, total = [], 0, 0
    for token, count in enumerate(times.tolist()):
        if total and total + count > AT_ONCE:
            ranges.append((begin, token))
            begin, total = token, 0
        total += count
    return [*ranges, (begin, len(times))] if total else ranges


def _together(parts: list[Level]) -> Level:
    ends = np.cumsum([0, *(len(part.tokens) for part in parts)])
    first = [part.first[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
    contexts, _, *others = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Level(contexts, np.concatenate([*first, ends[-1:]]), *others)


def _count_at(
    places: NDArray[np.int64],
    tokens: NDArray[np.integer[Any]],
    shares: NDArray[np.float64],
    vocab_size: int,
    longest: int,
) -> list[Level]:
    """The levels of the contexts that end at these places, which are all those of their last tokens.

    One sort brings equal n-grams together, the token that follows first, then the context from its latest token
    back: so the entries of every shorter length lie together as well, and are added up from the longer ones.
    """
    keys = tokens[places + 1].astype(np.int64)
    for back in range(longest):
        keys *= vocab_size
        keys += tokens[places - back]
    keys.sort()
    entries = [_add_up(keys, np.ones(len(keys), np.int32))[:2]]
    groups: list[NDArray[np.int32]] = []  # of each entry, which entry of the shorter length it belongs to
    del keys
    for _ in range(longest - 1):
        shorter, counts, group = _add_up(entries[-1][0] // vocab_size, entries[-1][1])
        entries.append((shorter, counts))
        groups.append(group)
    p = without = shares[entries[-1][0] // vocab_size].astype(np.float32)
    levels = []
    for length in range(1, longest + 1):
        if length > 1:
            group = groups.pop()
            p, without = p[group], without[group]
        level, p, without = _level(*entries.pop(), p, without, vocab_size, vocab_size**length, length <= SINGLES_UP_TO)
        levels.append(level)
    return levels


def _add_up(keys: NDArray[np.int64], counts: NDArray[np.int32]) -> tuple[NDArray, NDArray, NDArray]:
    """Equal keys that lie together become one: these, their counts, and which of them each became."""
    new = np.empty(len(keys), bool)
    new[0] = True
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    first = np.flatnonzero(new)
    return keys[first], np.add.reduceat(counts, first), (np.cumsum(new) - 1).astype(np.int32)


def discounts(counts: NDArray[np.int32]) -> NDArray[np.float32]:
    """What is taken from a count of 0, of 1, of 2, and of more (Chen and Goodman 1999, equation 17)."""
    n1, n2, n3, n4 = (int((counts == c).sum()) for c in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2) if n1 + n2 else 0.5
    three = (1 - 2 * y * n2 / max(n1, 1), 2 - 3 * y * n3 / max(n2, 1), 3 - 4 * y * n4 / max(n3, 1))
    return np.array([0.0, *(min(max(d, 0.1), c - 0.1) for c, d in enumerate(three, 1))], np.float32)


def _level(
    keys: NDArray[np.int64],
    counts: NDArray[np.int32],
    shorter: NDArray[np.float32],
    shorter_without: NDArray[np.float32],
    vocab_size: int,
    contexts: int,
    singles: bool,
) -> tuple[Level, NDArray[np.float32], NDArray[np.float32]]:
    """A level from its entries, and their probabilities: with all places of the text, and with one such place less.

    Args:
        keys: of the entries: what follows, then the context.
        counts: how often.
        shorter: what the shorter context says of each.
        shorter_without: the same with one place less.
        vocab_size: number of token ids.
        contexts: number of contexts that could be: a key is the token times this, plus the context.
        singles: whether what followed a single time is kept.
    """
    token, context = np.divmod(keys, contexts)
    del keys  # the arrays are as long as the text
    order = np.argsort(context * vocab_size + token)
    context, token, c = context[order], token[order].astype(np.int32), counts[order]
    shorter, shorter_without = shorter[order], shorter_without[order]
    contexts_seen, totals, of = _add_up(context, c)
    taken = discounts(c)
    once = c == 1
    d, d_less = taken[np.minimum(c, 3)], taken[np.minimum(c - 1, 3)]
    rest = np.bincount(of, weights=d).astype(np.float32)[of]  # times N
    c = c.astype(np.float32)
    n = totals.astype(np.float32)[of]
    own, back = (c - d) / n, rest / n * shorter
    p, gains = own + back, np.log1p(own / back)
    n -= 1
    alone = n == 0
    n[alone] = 1
    own, back = (c - 1 - d_less) / n, (rest - d + d_less) / n * shorter_without
    p_less = np.where(alone, shorter_without, own + back)
    back[once] = 1  # where nothing is left, nothing is gained
    without = np.log1p(own / back)
    entries = (totals >= SEEN_AT_LEAST)[of]
    if not singles:
        entries &= ~once
    sizes = np.bincount(of[entries], minlength=len(totals))
    kept = sizes > 0
    level = Level(
        contexts_seen[kept],
        np.concatenate(([0], np.cumsum(sizes[kept]))),
        np.minimum(np.log2(totals[kept]).astype(np.uint8), BUCKETS - 1),
        token[entries],
        gains[entries],
        without[entries],
    )
    as_given = np.empty_like(p), np.empty_like(p_less)
    as_given[0][order], as_given[1][order] = p, p_less
    return level, *as_given
