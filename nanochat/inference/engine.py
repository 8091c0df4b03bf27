"""The engine: any number of texts written at once, each begun and ended when it likes.

Each step reads the weights once for all texts in work: a token for those that are being written, a piece of the
prompt for those that have just come ("continuous batching", Orca, OSDI 2022). What a text becomes does not depend on
the others.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence

from nanochat.inference.decoder import Decoder
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampler, Sampling, choose
from nanochat.model import GPT
from nanochat.tokenizer import Tokenizer

PROMPT_PIECE = 64  # tokens of a prompt read in a step: others need not wait long for their next token


class Engine:
    """Writes texts with one model. Several threads may use it: a step, whoever takes it, goes on with the texts of all.

    Args:
        gpt: the model.
        tokenizer: its tokenizer.
        build: whether to compile the decoder if that has not been done on this machine.
    """

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, build: bool = True) -> None:
        self.decoder, self.tokenizer = Decoder(gpt, build), tokenizer
        self.active: list[Generation] = []
        self._lock = threading.RLock()  # one step at a time, and nobody takes in the middle of it what is written

    @property
    def context(self) -> int:
        """The largest number of tokens in a text, its prompt included."""
        return self.decoder.context

    def start(
        self,
        prompt: Sequence[int],
        settings: Sampling | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        count: int = 1,
    ) -> list[Generation]:
        """Puts continuations of a prompt in work; the next :meth:`step` goes on with them.

        Args:
            prompt: token ids; of a conversation as ``render_prompt`` gives them.
            settings: how tokens are chosen.
            max_tokens: how many tokens to add at most; as many as the context has room for if None.
            seed: the same seed gives the same texts; None takes a new one each time.
            stop: texts before which a continuation ends.
            count: how many; the prompt is read once for all of them.

        Returns:
            As many generations.

        Raises:
            ValueError: if the prompt is empty or leaves no room in the context, or a number is out of range.
        """
        if not prompt:
            raise ValueError("a prompt needs at least one token")
        if len(prompt) >= self.context:
            raise ValueError(f"a prompt of {len(prompt)} tokens leaves no room in the context of {self.context}")
        if count < 1 or (max_tokens is not None and max_tokens < 1):
            raise ValueError("there must be at least one text of at least one token")
        if any(not 0 <= token < self.decoder.vocab_size for token in prompt):
            raise ValueError(f"the prompt has tokens outside of the vocabulary of {self.decoder.vocab_size}")
        settings = settings or Sampling()
        seed = secrets.randbits(32) if seed is None else seed
        most = min(len(prompt) + (max_tokens or self.context), self.context)
        stream = self.decoder.new_stream(most)
        generations = [
            Generation(self.tokenizer, stream, prompt, Sampler(settings, (seed + n) % 2**63), stop)
            for n in range(count)
        ]
        generations[0].siblings = generations[1:]  # they join when their common prompt has been read
        with self._lock:
            self.active.append(generations[0])
        return generations

    def step(self) -> list[Generation]:
        """Goes on with each text in work, by a token or a piece of its prompt.

        Returns:
            Those that have something new (:meth:`Generation.take`), or are finished.
        """
        with self._lock:
            self._retire()
            if not self.active:
                return []
            pieces = [generation.pending[:PROMPT_PIECE] for generation in self.active]
            logits = self.decoder.read([generation.stream for generation in self.active], pieces)
            ready: list[tuple[Generation, int]] = []  # whose next token is to be chosen, and the row of its logits
            for row, (generation, piece) in enumerate(zip(list(self.active), pieces, strict=True)):
                del generation.pending[: len(piece)]
                if not generation.pending:
                    for sibling in generation.siblings:
                        if sibling.finished is None:
                            sibling.begin_like(generation)
                            self.active.append(sibling)
                    ready += [(one, row) for one in (generation, *generation.siblings) if one.finished is None]
                    generation.siblings = []
            if ready:
                generations = [generation for generation, _ in ready]
                texts = [generation.stream.ids for generation in generations] if _penalizes(generations) else None
                chosen = choose(logits[[row for _, row in ready]], [g.sampler for g in generations], texts)
                for generation, token in zip(generations, chosen, strict=True):
                    generation.add(token)
            self._retire()
            return [generation for generation, _ in ready]

    def cancel(self, generation: Generation) -> None:
        """Ends a text where it is; its place is free at once."""
        with self._lock:
            if generation.finished is None:
                generation.finish("cancelled")
            self._retire()

    def _retire(self) -> None:
        """Lets go of what nobody waits for any more, and of its memory: whoever reads a text slowly holds no more."""
        for generation in self.active:
            if not generation.in_work:
                generation.stream.free()
        self.active = [generation for generation in self.active if generation.in_work]

    def stream(self, generation: Generation) -> Iterator[tuple[str, str]]:
        """Works until a text is finished, and yields what comes: (kind, text) as of :meth:`Generation.take`.

        Whoever stops listening ends the text.
        """
        try:
            while generation.finished is None:
                with self._lock:
                    self.step()
                    new = generation.take()
                yield from new
            yield from generation.take()
        finally:
            self.cancel(generation)

    def run(self, generations: Sequence[Generation]) -> None:
        """Works until all of these are finished."""
        while any(generation.finished is None for generation in generations):
            self.step()


def _penalizes(generations: Sequence[Generation]) -> bool:
    return any(generation.sampler.settings.repetition_penalty != 1 for generation in generations)
