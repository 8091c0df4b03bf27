"""The inference engine: generates any number of texts in one batch, which they join and leave at any step.

Each step reads the weights once for all active texts: it processes one token of every text in generation, and a chunk
of the prompt of every text that has just been started ("continuous batching", Orca, OSDI 2022). The result of a text
does not depend on the other texts in the batch.
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

PREFILL_CHUNK = 64  # prompt tokens per step; bounds how long a new prompt delays the next token of the other texts


class Engine:
    """Generates texts with one model. It is thread-safe: a step, from any thread, advances all active texts.

    Args:
        gpt: the model.
        tokenizer: its tokenizer.
        build: whether to compile the C++ decoder if it is not yet compiled on this machine.

    Attributes:
        active: the generations of the next step.
    """

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, build: bool = True) -> None:
        self.decoder, self.tokenizer = Decoder(gpt, build), tokenizer
        self.active: list[Generation] = []
        self._lock = threading.RLock()  # held during a step, and while its new text is taken

    @property
    def context(self) -> int:
        """The maximum number of tokens in a text, including its prompt."""
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
        """Adds continuations of a prompt to the batch; the next :meth:`step` begins with them.

        Args:
            prompt: token ids; for a conversation the result of ``render_prompt``.
            settings: how tokens are sampled.
            max_tokens: the largest number of new tokens; None for as many as fit into the context.
            seed: the same seed gives the same texts; None draws a new seed.
            stop: texts that end a continuation; they are not part of it.
            count: number of continuations; the prompt is read once for all of them.

        Returns:
            ``count`` generations.

        Raises:
            ValueError: if the prompt is empty, fills the context or has unknown tokens, or a number is out of range.
        """
        if not prompt:
            raise ValueError("a prompt needs at least one token")
        if len(prompt) >= self.context:
            raise ValueError(f"a prompt of {len(prompt)} tokens leaves no room in the context of {self.context}")
        if count < 1 or (max_tokens is not None and max_tokens < 1):
            raise ValueError(f"count and max_tokens must be at least 1, not {count} and {max_tokens}")
        if any(not 0 <= token < self.decoder.vocab_size for token in prompt):
            raise ValueError(f"the prompt has tokens outside the vocabulary of {self.decoder.vocab_size}")
        settings = settings or Sampling()
        seed = secrets.randbits(32) if seed is None else seed
        length = min(len(prompt) + (max_tokens or self.context), self.context)
        stream = self.decoder.new_stream(length)
        generations = [
            Generation(self.tokenizer, stream, prompt, Sampler(settings, (seed + n) % 2**63), stop)
            for n in range(count)
        ]
        generations[0].siblings = generations[1:]  # they join the batch when the first has read the prompt
        with self._lock:
            self.active.append(generations[0])
        return generations

    def step(self) -> list[Generation]:
        """Advances each active text by one token, or by a chunk of its prompt.

        Returns:
            The generations that have new text (:meth:`Generation.take`) or are finished.
        """
        with self._lock:
            self._remove_finished()
            if not self.active:
                return []
            chunks = [generation.pending[:PREFILL_CHUNK] for generation in self.active]
            logits = self.decoder.read([generation.stream for generation in self.active], chunks)
            ready: list[tuple[Generation, int]] = []  # generations to sample a token for, with their row of the logits
            for row, (generation, chunk) in enumerate(zip(list(self.active), chunks, strict=True)):
                del generation.pending[: len(chunk)]
                if not generation.pending:
                    for sibling in generation.siblings:
                        if sibling.finished is None:
                            sibling.fork_from(generation)
                            self.active.append(sibling)
                    ready += [(one, row) for one in (generation, *generation.siblings) if one.finished is None]
                    generation.siblings = []
            if ready:
                generations = [generation for generation, _ in ready]
                texts = [generation.stream.ids for generation in generations] if _any_penalty(generations) else None
                chosen = choose(logits[[row for _, row in ready]], [g.sampler for g in generations], texts)
                for generation, token in zip(generations, chosen, strict=True):
                    generation.add(token)
            self._remove_finished()
            return [generation for generation, _ in ready]

    def cancel(self, generation: Generation) -> None:
        """Ends a text where it is and frees its memory at once."""
        with self._lock:
            if generation.finished is None:
                generation.finish("cancelled")
            self._remove_finished()

    def _remove_finished(self) -> None:
        """Removes finished texts from the batch and frees their KV caches, even if their text has not been taken."""
        for generation in self.active:
            if not generation.is_active:
                generation.stream.free()
        self.active = [generation for generation in self.active if generation.is_active]

    def stream(self, generation: Generation) -> Iterator[tuple[str, str]]:
        """Runs steps until a text is finished and yields its new text: (kind, text) as in :meth:`Generation.take`.

        Closing the iterator cancels the text.
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
        """Runs steps until all of these are finished."""
        while any(generation.finished is None for generation in generations):
            self.step()


def _any_penalty(generations: Sequence[Generation]) -> bool:
    """Whether any of them needs the text so far for its repetition penalty."""
    return any(generation.sampler.settings.repetition_penalty != 1 for generation in generations)
