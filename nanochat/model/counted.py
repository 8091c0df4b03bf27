"""What counting says of the next token, added to what the transformer says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from nanochat.model.counting import BUCKETS, Counts, count
from nanochat.model.repeats import last_repeat

MOST_TOKENS = 2**14  # in a vocabulary: half a gigabyte of rows
REPEATS_DOUBLED = 0.75  # nats that a repeat says more, at first, for each doubling of its length


class CountedNgrams(nn.Module):
    """Adds, to the logits of the next token, the gains of what was seen after the last one, two, three ... tokens.

    What follows "th" can be counted, millions of tokens a second, and a few seconds of counting say as much of a text
    as minutes of training. So the text is counted first (:mod:`nanochat.model.counting`), and the transformer learns
    the rest: logits are capped ones of its own, plus what was counted. The gains themselves stay as they were counted.
    How far to trust them is learned, for each length of context, and by how often such a context was seen.

    A text that was counted has seen itself, and would be told what follows. So who learns from a part of it counts only
    the others meanwhile (:class:`~nanochat.data.parts.Parts`).

    And what followed the last tokens when they stood in this very text before becomes likelier: by how much is learned,
    for each number of tokens that agree (:func:`~nanochat.model.repeats.last_repeat`).

    Args:
        longest: tokens in the longest context.
        vocab_size: number of token ids.
        repeats: tokens in the longest repeat that is told from shorter ones; 0 for none.

    Raises:
        ValueError: if these are too many.

    Attributes:
        trust: (longest x BUCKETS + repeats,), what gains are multiplied by, and those of repeats, from one token on.
        shares, levels, contexts, first, buckets, tokens, gains: as in :class:`~nanochat.model.counting.Counts`; zeros
            and nothing until a text was counted.
        rows: (vocab_size, vocab_size), float16: the gains after single tokens once more. Nearly every token has one
            there, and a row is added faster than its entries.
    """

    shares: Tensor
    levels: Tensor
    contexts: Tensor
    first: Tensor
    buckets: Tensor
    tokens: Tensor
    gains: Tensor
    rows: Tensor

    def __init__(self, longest: int, vocab_size: int, repeats: int = 0) -> None:
        super().__init__()
        if vocab_size > MOST_TOKENS:
            raise ValueError(
                f"with {vocab_size:,} tokens in the vocabulary nothing can be counted, as each has a row with a number "
                f"for each: --model.counted=0, or a vocabulary of at most {MOST_TOKENS:,}"
            )
        self.longest, self.vocab_size, self.repeats = longest, vocab_size, repeats
        again = 1 + REPEATS_DOUBLED * torch.arange(1, repeats + 1).log2()
        self.trust = nn.Parameter(torch.cat((torch.ones(longest * BUCKETS), again)))
        self.register_buffer("shares", torch.zeros(vocab_size))
        for name, size, dtype in (
            ("levels", longest + 1, torch.int64),
            ("contexts", 0, torch.int64),
            ("first", 1, torch.int64),
            ("buckets", 0, torch.uint8),
            ("tokens", 0, torch.int32),
            ("gains", 0, torch.float16),
        ):
            self.register_buffer(name, torch.zeros(size, dtype=dtype))
        # made of the others, so no part of a checkpoint
        self.register_buffer("rows", torch.zeros(0, vocab_size, dtype=torch.float16), persistent=False)

    @torch.no_grad()
    def count(self, text: NDArray[np.integer[Any]]) -> None:
        """Counts a text, in place of what was counted before.

        Args:
            text: token ids.

        Raises:
            ValueError: if it is too short, or the contexts are too long for the vocabulary.
        """
        device = self.shares.device
        for name in Counts._fields:  # makes room for what is to come
            setattr(self, name, getattr(self, name).new_zeros(0))
        counts = count(text, self.vocab_size, self.longest, torch.get_num_threads())
        for name, array in counts._asdict().items():
            setattr(self, name, torch.from_numpy(array).to(device))
        self._make_rows()

    @torch.no_grad()
    def _make_rows(self) -> None:
        alone = int(self.levels[1])
        first = self.first[: alone + 1]
        context = torch.repeat_interleave(self.contexts[:alone], first[1:] - first[:-1])
        token, gain = self.tokens[: len(context)].long(), self.gains[: len(context)]
        self.rows = gain.new_zeros(self.vocab_size, self.vocab_size).index_put_((context, token), gain)

    @property
    def again(self) -> Tensor:
        """How much likelier a repeat makes what followed: (repeats,), from one token that agrees on."""
        return self.trust[self.longest * BUCKETS :]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been counted yet."""
        return not len(self.contexts)

    @property
    def bytes(self) -> int:
        """Memory that what was counted takes."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.buffers())

    def known(self, ids: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Which contexts that end at each token were seen.

        Args:
            ids: (batch, time), int64.
            before: (batch, any number), int64: the tokens before these; None if there are none.

        Returns:
            Their places in ``contexts``, (longest, batch x time), and whether they were seen, the same shape.
        """
        earlier = ids[:, :0] if before is None else before[:, max(0, before.size(1) - self.longest + 1) :]
        # a token that there is not stands for what is before the beginning: no context was seen with it
        known = F.pad(torch.cat((earlier, ids), 1), (self.longest - 1 - earlier.size(1), 0), value=-1)
        key, inside = torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool)
        places, seen = [], []
        begins = self.levels.tolist()
        for length in range(1, self.longest + 1):
            older = known[:, self.longest - length : known.size(1) - length + 1]
            inside = inside & (older >= 0)
            key = key * self.vocab_size + older
            contexts = self.contexts[begins[length - 1] : begins[length]]
            if not len(contexts):  # nothing has been counted
                contexts = key.new_full((1,), -1)
            place = torch.searchsorted(contexts, key).clamp_(max=len(contexts) - 1)
            places.append(place.flatten() + begins[length - 1])
            seen.append(((contexts[place] == key) & inside).flatten())
        return torch.stack(places), torch.stack(seen)

    def forward(self, ids: Tensor, before: Tensor | None = None) -> Tensor:
        """What is to be added to the logits: (batch x time, vocab_size), float32; arguments as in :meth:`known`."""
        if self.is_empty:
            return self.shares.expand(ids.numel(), -1)
        place, seen = self.known(ids, before)
        rows = self.rows[ids.flatten()].float()
        begin = self.first[place[1:]]
        sizes = (self.first[place[1:] + 1] - begin).mul_(seen[1:]).flatten()
        ends = sizes.cumsum(0)
        entries = int(ends[-1]) if len(ends) else 0

        def each(values: Tensor) -> Tensor:
            """A value for each entry, from one for each context at each place."""
            return torch.repeat_interleave(values, sizes, output_size=entries)

        entry = torch.arange(entries, device=ids.device) + each(begin.flatten() + sizes - ends)
        token = self.tokens.index_select(0, entry)
        gain = self.gains.index_select(0, entry).float()
        begins = torch.arange(0, ids.numel() * self.vocab_size, self.vocab_size, device=ids.device)
        where = each(begins.repeat(self.longest - 1)).add_(token)
        buckets = self.buckets[place].to(torch.int64)
        of_contexts = buckets[1:].flatten()
        if self.repeats:  # each is a context with a single entry
            agree, follower = self.repeated(ids, before)
            of_contexts = torch.cat((of_contexts, self.longest * BUCKETS + (agree - 1).clamp_(min=0)))
            sizes = torch.cat((sizes, (agree > 0).long()))
            where = torch.cat((where, (begins + follower)[agree > 0]))
            gain = F.pad(gain, (0, len(where) - len(gain)), value=1.0)
        added: Tensor = _AddUp.apply(self.trust, self.shares, rows, buckets[0], of_contexts, sizes, where, gain)
        return added

    def repeated(self, ids: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the text itself said before: as :func:`~nanochat.model.repeats.last_repeat`, (batch x time,) each."""
        text = ids if before is None else torch.cat((before, ids), 1)
        agree, follower = last_repeat(text, ids.size(1), self.repeats)
        return agree.flatten(), follower.flatten()

    def after(self, ids: Sequence[int], begin: int) -> Tensor:
        """What is to be added after each token of a text from place ``begin`` on: (tokens, vocab_size)."""
        text = torch.tensor([ids], device=self.shares.device)
        return self(text[:, begin:], text[:, :begin])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """What was counted is as large as it is: a checkpoint's takes the place of what is here."""
        for name, buffer in self.named_buffers():
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != buffer.shape:
                setattr(self, name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
        if not self.contexts.is_meta:
            self._make_rows()


class _AddUp(Function):
    """Trusted gains, each to its place; with a gradient for the trust alone."""

    @staticmethod
    def forward(
        ctx: Any,
        trust: Tensor,
        shares: Tensor,
        rows: Tensor,
        of_rows: Tensor,
        of_contexts: Tensor,
        sizes: Tensor,
        where: Tensor,
        gain: Tensor,
    ) -> Tensor:
        """Args:
            trust: (buckets,).
            shares: (vocab_size,), what each place begins with.
            rows: (places, vocab_size), the gains after each token by itself.
            of_rows: (places,), the bucket of each of these.
            of_contexts: (contexts,), the bucket of each longer context at each place.
            sizes: (contexts,), how many entries it has.
            where: (entries,), each one's place and token.
            gain: (entries,).

        Returns:
            (places, vocab_size)
        """
        ctx.save_for_backward(trust, rows, of_rows, of_contexts, sizes, where, gain)
        trust = trust.float()
        added = torch.addcmul(shares, rows, trust[of_rows].unsqueeze(1))
        trusted = torch.repeat_interleave(trust[of_contexts], sizes, output_size=len(gain)).mul_(gain)
        added.view(-1).index_add_(0, where, trusted)
        return added

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        trust, rows, of_rows, of_contexts, sizes, where, gain = ctx.saved_tensors
        of_entries = grad.reshape(-1).index_select(0, where).mul_(gain)
        by_context = torch.segment_reduce(of_entries, "sum", lengths=sizes)
        by_trust = torch.zeros_like(trust, dtype=torch.float32).index_add_(0, of_contexts, by_context)
        by_trust.index_add_(0, of_rows, torch.linalg.vecdot(grad, rows))
        return by_trust.to(trust.dtype), *[None] * 7
