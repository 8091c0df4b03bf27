"""Counting n-grams: what follows which tokens in a text, and how much that says.

The method is Kneser and Ney's (ICASSP 1995), with the three discounts of Chen and Goodman (Computer Speech and Language
13, 1999): of ``c`` occurrences of a token after a context of ``N``, a little is taken away and given to what the
context shortened by its oldest token says,

    p(token | context) = (c - D(c)) / N + rest(context) p(token | shorter),    rest = sum of the D of the context / N.

The shorter context is asked where the longer one does not know. So its counts are not how often a token follows it, but
how many longer contexts it follows with it: "Francisco" may be frequent, but is likely after "San" and nowhere else.

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

from nanochat.allocator import return_memory

SEEN_AT_LEAST = 2  # the sum of a context's counts, or else it is left out: what was seen once says next to nothing
# Of longer contexts, counts of 1 are left out: they would take as much memory again, and bring 0.2 to 0.3 % of what
# counting says (prose, vocabulary 512).
SINGLES_UP_TO = 3
# A token is taken to have at least so much of an equal share. The special tokens that later stages learn are not in the
# text at all: what the model says of them is capped, and could hardly make up for a share of next to nothing.
RAREST = 1 / 32
AT_ONCE = 125_000  # places in the text, by each thread: 13 MB
BUCKETS = 12  # contexts are told apart by the sums of their counts: below 2, 4, 8, ... 2048, or more


class Counts(NamedTuple):
    """What was counted, the contexts of one length after those of the other.

    Attributes:
        shares: (vocab_size,), float32: the logarithms of the shares of single tokens.
        levels: (longest + 1,), int64: where the contexts of each length begin, and the end.
        contexts: (contexts,), int64, ascending within a length: the tokens as digits, the latest one first.
        first: (contexts + 1,), int64: at which entry those of each context begin.
        buckets: (contexts,), uint8: which trust it has: by its length, and log2 of the sum of its counts.
        tokens: (entries,), int32: what was seen after it.
        gains: (entries,), float16, in nats: how much likelier that is than the shorter context says.
    """

    shares: NDArray[np.float32]
    levels: NDArray[np.int64]
    contexts: NDArray[np.int64]
    first: NDArray[np.int64]
    buckets: NDArray[np.uint8]
    tokens: NDArray[np.int32]
    gains: NDArray[np.float16]


class _Level(NamedTuple):
    """As above, of one length and some of the contexts; ``sizes``, int32, is how many entries each has."""

    contexts: NDArray[np.int64]
    sizes: NDArray[np.int32]
    buckets: NDArray[np.uint8]
    tokens: NDArray[np.int32]
    gains: NDArray[np.float16]


def longest_countable(vocab_size: int) -> int:
    """How many tokens a context may have, so that it and what follows fit into 63 bits."""
    return int(63 / np.log2(vocab_size)) - 1


def count(tokens: NDArray[np.integer[Any]], vocab_size: int, longest: int, threads: int = 1) -> Counts:
    """Counts a text.

    Contexts that end in different tokens have nothing to do with each other: a few at a time are counted, so that
    little memory is needed besides the result, and several threads may share the work.

    Args:
        tokens: the text; more than ``longest`` of them.
        vocab_size: number of token ids.
        longest: tokens in the longest context.
        threads: that count.

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
    latest = tokens[longest - 1 : -1]

    def part(ids: tuple[int, int]) -> list[_Level]:
        places = np.flatnonzero((latest >= ids[0]) & (latest < ids[1])) + longest - 1
        return _count_at(places, tokens, shares, vocab_size, longest)

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(part, _ranges(np.bincount(latest, minlength=vocab_size))))
    levels = [sum(len(levels[length].contexts) for levels in parts) for length in range(longest)]
    columns = list(zip(*(levels[length] for length in range(longest) for levels in parts), strict=True))
    del parts
    together = []
    for _ in _Level._fields:
        together.append(np.concatenate(columns.pop(0)))
        return_memory()  # all columns are as large as the result: let each go when it has become one
    contexts, sizes, *others = together
    first = np.cumsum(np.append(np.int64(0), sizes))
    return Counts(np.log(shares).astype(np.float32), np.cumsum([0, *levels]), contexts, first, *others)


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


def _count_at(
    places: NDArray[np.int64],
    tokens: NDArray[np.integer[Any]],
    shares: NDArray[np.float64],
    vocab_size: int,
    longest: int,
) -> list[_Level]:
    """The levels of the contexts that end at these places, which are all that end in the same tokens.

    One sort brings equal n-grams together, the token that follows first, then the context from its latest token
    back: so the entries of every shorter length lie together as well, and each counts the longer ones of its kind.
    """
    keys = tokens[places + 1].astype(np.int64)
    for back in range(longest):
        keys *= vocab_size
        keys += tokens[places - back]
    keys.sort()
    entries = [_add_up(keys)[:2]]
    groups: list[NDArray[np.int32]] = []  # of each entry, which entry of the shorter length it belongs to
    del keys
    for _ in range(longest - 1):
        shorter, counts, group = _add_up(entries[-1][0] // vocab_size)
        entries.append((shorter, counts))
        groups.append(group)
    p = shares[entries[-1][0] // vocab_size].astype(np.float32)
    levels = []
    for length in range(1, longest + 1):
        if length > 1:
            p = p[groups.pop()]
        level, p = _level(*entries.pop(), p, vocab_size, length)
        levels.append(level)
    return levels


def _add_up(keys: NDArray[np.int64], counts: NDArray[np.int32] | None = None) -> tuple[NDArray, NDArray, NDArray]:
    """Equal keys that lie together become one: these, the sums of their counts, and which of them each became.

    Args:
        keys: of any kind, equal ones together.
        counts: of each key; 1 if None.
    """
    new = np.empty(len(keys), bool)
    new[0] = True
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    first = np.flatnonzero(new)
    sums = np.diff(first, append=len(keys)).astype(np.int32) if counts is None else np.add.reduceat(counts, first)
    return keys[first], sums, (np.cumsum(new) - 1).astype(np.int32)


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
    vocab_size: int,
    length: int,
) -> tuple[_Level, NDArray[np.float32]]:
    """A level from its entries, and their probabilities.

    Args:
        keys: of the entries: what follows, then the context.
        counts: of each.
        shorter: what the shorter context says of each.
        vocab_size: number of token ids.
        length: tokens in a context.
    """
    token, context = np.divmod(keys, vocab_size**length)
    del keys  # the arrays are as long as the text
    order = np.argsort(context * vocab_size + token)
    context, token, c, shorter = context[order], token[order].astype(np.int32), counts[order], shorter[order]
    contexts_seen, totals, of = _add_up(context, c)
    taken = discounts(c)[np.minimum(c, 3)]
    rest = np.bincount(of, weights=taken).astype(np.float32)[of] * shorter  # times N
    own = c - taken
    enough = (totals >= SEEN_AT_LEAST)[of]
    p = np.where(enough, (own + rest) / totals[of], shorter)
    entries = enough if length <= SINGLES_UP_TO else enough & (c > 1)
    sizes = np.bincount(of[entries], minlength=len(totals))
    kept = sizes > 0
    buckets = np.minimum(np.log2(totals[kept]), BUCKETS - 1) + (length - 1) * BUCKETS
    gains = np.log1p(own[entries] / rest[entries]).astype(np.float16)
    level = _Level(contexts_seen[kept], sizes[kept].astype(np.int32), buckets.astype(np.uint8), token[entries], gains)
    as_given = np.empty_like(shorter)
    as_given[order] = p
    return level, as_given
