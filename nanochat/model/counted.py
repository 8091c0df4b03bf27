"""What counting says of the next token, added to what the transformer says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from nanochat.model.counting import BUCKETS, count

TRUST = 0.9  # at first: what was counted in one text is a little too sure of another


class CountedNgrams(nn.Module):
    """Adds, to the logits of the next token, the gains of what was seen after the last one, two, three ... tokens.

    What follows "th" can be counted, a million tokens a second, and a few seconds of counting say as much of a text as
    minutes of training. So the text is counted first (:mod:`nanochat.model.counting`), and the transformer learns the
    rest: logits are capped ones of its own, plus what was counted. The gains themselves stay as they were counted.
    How far to trust them is learned, for each length of context, and by how often such a context was seen.

    A text that was counted has seen itself: after a context that it has once, it would know what follows. So while
    training, each place is left out of what it is told ("leave one out", as in Ney et al. 1994).

    Args:
        longest: tokens in the longest context.
        vocab_size: number of token ids.

    Attributes:
        trust: (longest x BUCKETS,), what gains are multiplied by.
        leave_one_out: whether :meth:`forward` leaves out the place itself where it is told the targets.
        shares: (vocab_size,), float32: the logarithms of the shares of single tokens; zeros until something was counted.
        contexts: of all lengths, one after the other, as in :class:`~nanochat.model.counting.Level`; and so are
            ``first``, ``buckets`` (here with those of shorter contexts before them), ``tokens``, ``gains``, ``without``.
        levels: (longest + 1,), int64: where in ``contexts`` each length begins, and the end.
    """

    shares: Tensor
    contexts: Tensor
    first: Tensor
    buckets: Tensor
    tokens: Tensor
    gains: Tensor
    without: Tensor
    levels: Tensor

    def __init__(self, longest: int, vocab_size: int) -> None:
        super().__init__()
        self.longest, self.vocab_size = longest, vocab_size
        self.trust = nn.Parameter(torch.full((longest * BUCKETS,), TRUST))
        self.leave_one_out = False
        self.register_buffer("shares", torch.zeros(vocab_size))
        for name, size, dtype in (
            ("levels", longest + 1, torch.int64),
            ("contexts", 0, torch.int64),
            ("first", 1, torch.int64),
            ("buckets", 0, torch.uint8),
            ("tokens", 0, torch.int32),
            ("gains", 0, torch.float16),
            ("without", 0, torch.float16),
        ):
            self.register_buffer(name, torch.zeros(size, dtype=dtype))

    @torch.no_grad()
    def count(self, tokens: NDArray[np.integer[Any]]) -> None:
        """Counts a text, in place of what was counted before.

        Raises:
            ValueError: if it is too short, or the contexts are too long for the vocabulary.
        """
        shares, levels = count(tokens, self.vocab_size, self.longest, torch.get_num_threads())
        device, entries = self.shares.device, np.cumsum([0, *(len(level.tokens) for level in levels)])

        def together(parts: list[NDArray[Any]], like: Tensor) -> Tensor:
            return torch.from_numpy(np.concatenate(parts)).to(like.dtype).to(device)

        self.shares = torch.from_numpy(shares).to(device)
        self.levels = together([np.cumsum([0, *(len(level.contexts) for level in levels)])], self.levels)
        self.contexts = together([level.contexts for level in levels], self.contexts)
        begins = [level.first[:-1] + begin for level, begin in zip(levels, entries[:-1], strict=True)]
        self.first = together([*begins, entries[-1:]], self.first)
        self.buckets = together([level.buckets + n * BUCKETS for n, level in enumerate(levels)], self.buckets)
        self.tokens = together([level.tokens for level in levels], self.tokens)
        self.gains = together([level.gains for level in levels], self.gains)
        self.without = together([level.without for level in levels], self.without)

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
            Their indices, (longest, batch x time), and whether they were seen, the same shape.
        """
        earlier = ids[:, :0] if before is None else before[:, max(0, before.size(1) - self.longest + 1) :]
        known, time = torch.cat((earlier, ids), 1), ids.size(1)
        key = torch.zeros_like(ids)
        indices, seen = [], []
        levels = self.levels.tolist()
        for length in range(1, self.longest + 1):
            missing = max(0, length - 1 - earlier.size(1))  # places with too little before them
            back = known[:, max(0, earlier.size(1) - length + 1) : known.size(1) - length + 1]
            key = key * self.vocab_size
            key[:, missing:] += back[:, back.size(1) - (time - missing) :] if missing < time else 0
            contexts = self.contexts[levels[length - 1] : levels[length]]
            if not len(contexts):
                indices.append(torch.zeros_like(key).flatten())
                seen.append(torch.zeros_like(key, dtype=torch.bool).flatten())
                continue
            index = torch.searchsorted(contexts, key).clamp_(max=len(contexts) - 1)
            hit = contexts[index] == key
            hit[:, :missing] = False
            indices.append(index.flatten() + levels[length - 1])
            seen.append(hit.flatten())
        return torch.stack(indices), torch.stack(seen)

    def forward(self, ids: Tensor, before: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """What is to be added to the logits: (batch x time, vocab_size), float32.

        Args:
            ids: (batch, time), int64.
            before: as in :meth:`known`.
            targets: (batch, time), int64, what follows each token: left out, where that is wanted.
        """
        index, seen = self.known(ids, before)
        begin = self.first[index]
        sizes = (self.first[index + 1] - begin).mul_(seen).flatten()
        ends = sizes.cumsum(0)
        entries = int(ends[-1])

        def each(values: Tensor) -> Tensor:
            """A value for each entry, from one for each context at each place."""
            return torch.repeat_interleave(values, sizes, output_size=entries)

        entry = torch.arange(entries, device=ids.device) + each(begin.flatten() + sizes - ends)
        token = self.tokens.index_select(0, entry)
        gain = self.gains.index_select(0, entry).float()
        if self.leave_one_out and targets is not None:
            (own,) = torch.where(token == each(targets.flatten().to(token.dtype).repeat(self.longest)))
            gain[own] = self.without[entry[own]].float()
        rows = torch.arange(0, ids.numel() * self.vocab_size, self.vocab_size, device=ids.device)
        where = each(rows.repeat(self.longest)).add_(token)
        bucket = self.buckets[index.flatten()].to(torch.int64)
        added: Tensor = _AddUp.apply(self.trust, self.shares, ids.numel(), bucket, sizes, where, gain)
        return added

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """What was counted is as large as it is: a checkpoint's takes the place of what is here."""
        for name, buffer in self.named_buffers():
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != buffer.shape:
                setattr(self, name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


class _AddUp(Function):
    """Trusted gains, each to its place; with a gradient for the trust alone."""

    @staticmethod
    def forward(
        ctx: Any, trust: Tensor, shares: Tensor, places: int, bucket: Tensor, sizes: Tensor, where: Tensor, gain: Tensor
    ) -> Tensor:
        """Args:
        trust: (buckets,).
        shares: (vocab_size,), what each place begins with.
        places: how many there are.
        bucket: (contexts,), of each context at each place.
        sizes: (contexts,), how many entries it has.
        where: (entries,), each one's place and token.
        gain: (entries,).

        Returns:
            (places, vocab_size)
        """
        ctx.save_for_backward(trust, bucket, sizes, where, gain)
        added = shares.repeat(places)
        trusted = torch.repeat_interleave(trust.float()[bucket], sizes, output_size=len(gain))
        added.index_add_(0, where, trusted.mul_(gain))
        return added.view(places, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        trust, bucket, sizes, where, gain = ctx.saved_tensors
        of_entries = grad.reshape(-1).index_select(0, where).mul_(gain)
        of_contexts = torch.segment_reduce(of_entries, "sum", lengths=sizes)
        of_trust = torch.zeros_like(trust).index_add_(0, bucket, of_contexts.to(trust.dtype))
        return of_trust, None, None, None, None, None, None
