"""The prediction step: completions of a batch of prompts."""

from __future__ import annotations

from collections.abc import Sequence

from nanochat.data.prompt_data import Prompt
from nanochat.inference.engine import Engine
from nanochat.inference.generation import Generation
from nanochat.inference.sampling import Sampling


class PromptCompleter:
    """Completes prompts in batches; each has a random generator of its own, so the batch size changes nothing.

    Args:
        engine: with the model.
        sampling: how tokens are chosen.
        max_tokens: longest completion; None for as many tokens as the context has room for.
        seed: prompt number n is sampled with the seed plus n.
    """

    def __init__(self, engine: Engine, sampling: Sampling, max_tokens: int | None, seed: int) -> None:
        self.engine, self.sampling, self.max_tokens, self.seed = engine, sampling, max_tokens, seed

    def __call__(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """The completions of the prompts, in their order, generated together."""
        generations = [
            self.engine.start(prompt.ids, self.sampling, self.max_tokens, self.seed + prompt.number)[0]
            for prompt in prompts
        ]
        self.engine.run(generations)
        return generations
