"""Samples of a model at fixed prompts, the same for every report."""

from __future__ import annotations

from pathlib import Path

from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.reporting.schema import Sample
from nanochat.serving.model import load
from nanochat.tokenizer import prompt_ids

# These prompts never change, so that reports of different models can be compared.
BASE_PROMPTS = (
    "Return a list of",
    "Once upon a time",
    "The capital of France is",
    "def add(a, b):",
)
CHAT_PROMPTS = (
    "Who are you?",
    "What is 17 * 24?",
    "How many r are in strawberry?",
    "What does textwrap.dedent do?",
    "What is the capital of France?",
)
MAX_TOKENS = 48


def generate_samples(label: str, checkpoint: Path) -> list[Sample]:
    """Greedy samples of the model in a checkpoint, generated in one batch.

    A chat model answers :data:`CHAT_PROMPTS`, a base model continues :data:`BASE_PROMPTS`. A prompt that does not fit
    into the model's context is skipped.

    Args:
        label: of the stage.
        checkpoint: of the model.

    Raises:
        ValueError: if the checkpoint is damaged.
    """
    model = load(checkpoint)
    prompts = CHAT_PROMPTS if model.is_chat else BASE_PROMPTS
    engine = Engine(model.gpt, model.tokenizer, build=False)  # a few tokens are not worth a compilation
    greedy = Sampling(temperature=0.0, top_k=None)
    encoded = [(prompt, prompt_ids(model.tokenizer, prompt, model.is_chat)) for prompt in prompts]
    started = [
        (prompt, engine.start(ids, greedy, MAX_TOKENS, seed=0)[0])
        for prompt, ids in encoded
        if len(ids) < engine.context
    ]
    engine.run([generation for _, generation in started])
    return [{"label": label, "prompt": prompt, "text": generation.text} for prompt, generation in started]
