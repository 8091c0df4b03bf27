"""What only the model itself can say: its samples, and how its tokenizer compresses."""

from __future__ import annotations

from pathlib import Path

from nanochat.inference.engine import Engine
from nanochat.inference.sampling import Sampling
from nanochat.reporting.schema import Compression, Sample
from nanochat.serving.model import load
from nanochat.tokenizer import Tokenizer, prompt_ids
from nanochat.tokenizer.compression import TEXTS, bytes_per_token, measure_references
from nanochat.training.checkpoint_files import data_state, load_checkpoint

# The same for every model and for all time, so that reports can be laid side by side.
BEGINNINGS = (
    "Return a list of",
    "Once upon a time",
    "The capital of France is",
    "def add(a, b):",
)
QUESTIONS = (
    "Who are you?",
    "What is 17 * 24?",
    "How many r are in strawberry?",
    "What does textwrap.dedent do?",
    "What is the capital of France?",
)
MAX_TOKENS = 48
MINE = "this model"


def samples_of(label: str, checkpoint: Path) -> list[Sample]:
    """What a model makes of the fixed prompts, all of them at once: of questions, if it was fine-tuned to answer.

    Args:
        label: of the stage.
        checkpoint: of the model.

    Raises:
        ValueError: if the checkpoint is damaged.
    """
    model = load(checkpoint)
    prompts = QUESTIONS if model.is_chat else BEGINNINGS
    engine = Engine(model.gpt, model.tokenizer, build=False)  # a few tokens are not worth compiling for
    settings = Sampling(temperature=0.0, top_k=None)
    asked = [(prompt, prompt_ids(model.tokenizer, prompt, model.is_chat)) for prompt in prompts]
    started = [
        (prompt, engine.start(ids, settings, MAX_TOKENS, seed=0)[0])
        for prompt, ids in asked
        if len(ids) < engine.context  # a model with a very short context cannot be asked
    ]
    engine.run([generation for _, generation in started])
    return [{"label": label, "prompt": prompt, "text": generation.text} for prompt, generation in started]


def compression_of(checkpoint: Path) -> Compression:
    """How well the tokenizer in a checkpoint compresses, beside GPT-2's and GPT-4's as far as they are to be had.

    Raises:
        ValueError: if the checkpoint is damaged.
    """
    try:
        tokenizer = Tokenizer.from_dict(data_state(load_checkpoint(checkpoint))["tokenizer"])
    except KeyError as error:
        raise ValueError(f"{checkpoint} is not a checkpoint of this project: it has no tokenizer") from error
    found, absent = measure_references(TEXTS)
    mine = bytes_per_token(tokenizer.encode, TEXTS)
    return {"vocab_size": tokenizer.vocab_size, "bytes_per_token": {MINE: mine, **found}, "absent": absent}
