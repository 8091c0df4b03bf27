"""Use a trained model from Python: ``nanochat.load("tiny").chat("What does len do?")``."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nanochat.inference.engine import Engine
from nanochat.inference.generation import TEXT, Generation
from nanochat.inference.sampling import Sampling
from nanochat.model import GPT
from nanochat.model.rotary import rotation_table
from nanochat.serving.find_model import find_model, is_chat
from nanochat.serving.trim import trim_messages
from nanochat.tokenizer import Message, Tokenizer, render_prompt
from nanochat.training.checkpoint.saved_model import read_model
from nanochat.training.hardware import usable_device

CHAT_TEMPERATURE, BASE_TEMPERATURE = 0.3, 0.8  # a chat model's answers should be correct, a base model's texts varied
ANSWER_TOKENS = 128  # kept free for an answer, up to half of the context, before old turns are dropped


class Model:
    """A trained model with its tokenizer.

    Attributes:
        gpt: the network.
        tokenizer: its tokenizer.
        path: the checkpoint that it was loaded from.
        name: the name of its run, such as "tiny-chat", or of its file.
        is_chat: whether it was fine-tuned on conversations. A base model continues text, but does not answer questions.
    """

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, path: Path, is_chat: bool) -> None:
        self.gpt, self.tokenizer, self.path, self.is_chat = gpt, tokenizer, path, is_chat
        self._engine: Engine | None = None
        self._lock = threading.Lock()  # concurrent first uses create one engine, not two
        run = path.absolute().parent.parent
        self.name = run.parent.name if run.name.startswith("version_") else path.stem

    def __repr__(self) -> str:
        kind = "a chat model" if self.is_chat else "a base model"
        return f"<{self.name}: {kind} of {self.gpt.num_parameters:,} parameters, context {self.context:,}, {self.path}>"

    @property
    def context(self) -> int:
        """The context length: the maximum number of tokens of prompt and answer together."""
        return self.gpt.context

    @property
    def engine(self) -> Engine:
        """The inference engine. The first use creates it; the first use on a machine also compiles its decoder."""
        with self._lock:
            self._engine = self._engine or Engine(self.gpt, self.tokenizer)
        return self._engine

    def generate(self, prompt: str, **options: Any) -> str:
        """The model's continuation of a text, without the text itself.

        Args:
            prompt: the beginning of the text.
            options: those of :meth:`start`.
        """
        return self._run(self.start(prompt, **options))

    def chat(self, messages: str | Sequence[Message], **options: Any) -> str:
        """The model's answer to a question or a conversation, without the calls of the calculator.

        Args:
            messages: a question; or ``[{"role": "user", "content": ...}, ...]``, which may begin with a "system"
                message and ends with a "user" message.
            options: those of :meth:`start`.

        Raises:
            ValueError: if this is a base model, or as :meth:`start`.
        """
        return self._run(self.start(self._conversation(messages), **options))

    def stream(self, messages: str | Sequence[Message], **options: Any) -> Iterator[str]:
        """As :meth:`chat`, or as :meth:`generate` for a base model, but yields the text while it is generated.

        Closing the iterator cancels the generation.
        """
        prompt = messages if isinstance(messages, str) and not self.is_chat else self._conversation(messages)
        generation = self.start(prompt, **options)
        return (text for kind, text in self.engine.stream(generation) if kind == TEXT)

    def start(
        self,
        prompt: str | Sequence[Message],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = Sampling.top_k,
        top_p: float = Sampling.top_p,
        min_p: float = Sampling.min_p,
        repetition_penalty: float = Sampling.repetition_penalty,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Generation:
        """Starts a generation, which ``model.engine`` then runs.

        Args:
            prompt: a text to continue, or messages to answer. If a conversation is longer than the context, its oldest
                turns are dropped with a warning.
            max_tokens: the limit of new tokens; None for as many as the context has room for.
            temperature: divides the logits. 0 always takes the most likely token, 1 samples from the model's
                distribution, above 1 flattens it. None takes 0.3 for a chat model, and 0.8 for a base model.
            top_k: sample from the k most likely tokens only; None for no limit.
            top_p: sample from the smallest set of most likely tokens with this total probability.
            min_p: exclude tokens less likely than this fraction of the most likely token's probability.
            repetition_penalty: above 1 reduces the probability of tokens that are in the text already.
            seed: the same seed gives the same text; None takes a new one each time.
            stop: stop sequences. The text ends before the first of them.

        Raises:
            ValueError: if an option is out of range, or the prompt leaves no room in the context.
        """
        settings = Sampling(self.temperature(temperature), top_k, top_p, min_p, repetition_penalty)
        if isinstance(prompt, str):
            ids = [self.tokenizer.bos, *self.tokenizer.encode(prompt)]
        else:
            kept, dropped = trim_messages(self.tokenizer, prompt, self.context, self.answer_tokens(max_tokens))
            if dropped:
                warnings.warn(f"the oldest {dropped} messages are left out: the model's context is full", stacklevel=3)
            ids = render_prompt(self.tokenizer, kept)
        return self.engine.start(ids, settings, max_tokens, seed, stop)[0]

    def temperature(self, requested: float | None = None) -> float:
        """The requested temperature, or the default for this kind of model."""
        default = CHAT_TEMPERATURE if self.is_chat else BASE_TEMPERATURE
        return default if requested is None else requested

    def answer_tokens(self, max_tokens: int | None = None) -> int:
        """The number of tokens to keep free for an answer, for which turns of a conversation are dropped."""
        return min(max_tokens or ANSWER_TOKENS, self.context // 2)

    def _conversation(self, messages: str | Sequence[Message]) -> Sequence[Message]:
        if not self.is_chat:
            raise ValueError(
                f"{self.path} is a base model: it continues text, but does not answer questions. Use generate(), or "
                "fine-tune it: `fit` with --config configs/chat.yaml"
            )
        return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages

    def _run(self, generation: Generation) -> str:
        try:
            self.engine.run([generation])
        finally:
            self.engine.cancel(generation)  # after Ctrl-C
        return generation.text


def load(
    name_or_path: str | Path | None = None,
    root: str | Path = ".",
    device: str = "cpu",
    program: str = "python cli.py",
) -> Model:
    """Loads a trained model.

    Args:
        name_or_path: a checkpoint file; a run's folder (``lightning_logs/tiny/version_0``); the name of a run, of which
            the newest fine-tuned one is taken, else the newest ("tiny" also finds tiny-chat); None for the newest chat
            model, or the newest base model if there is no chat model.
        root: the folder that contains lightning_logs.
        device: "cpu", "cuda" or "mps". A small model is fastest on the CPU.
        program: the command line's name, for the commands in error messages.

    Raises:
        ValueError: if there is no such model or device, or the file is damaged. The message is one line, with the
            command that helps.
    """
    torch_device = usable_device(device)
    path = find_model(name_or_path, root, program)
    saved = read_model(path)
    gpt = saved.gpt
    # Copied, as the file may be overwritten while the model is in use; assigned, as the model has no storage yet.
    parameters = {name for name, _ in gpt.named_parameters()}
    weights = {name: w.float().clone() if name in parameters else w.clone() for name, w in saved.weights.items()}
    gpt.load_state_dict(weights, assign=True)
    gpt.cos, gpt.sin = rotation_table(gpt.context, gpt.config.head_dim)  # not stored in a checkpoint
    return Model(gpt.to(torch_device).eval().requires_grad_(False), saved.tokenizer, path, is_chat(path))
