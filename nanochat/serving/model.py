"""A trained model to talk to, from Python: ``nanochat.load("tiny").chat("What does len do?")``."""

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
from nanochat.serving.trim import trim
from nanochat.tokenizer import Message, Tokenizer, render_prompt
from nanochat.training.checkpoint.saved_model import read_model
from nanochat.training.hardware import usable_device

TEMPERATURE = {True: 0.3, False: 0.8}  # of a chat model, which is to be right, and of a base model
ROOM = 128  # tokens that are kept free for an answer, if the context allows it, before old turns are dropped


class Model:
    """A model with its tokenizer, ready to write.

    Attributes:
        gpt: the model.
        tokenizer: what turns text into its tokens.
        path: the checkpoint that it comes from.
        name: of its run, such as "tiny-chat", or the file's.
        is_chat: whether it was fine-tuned to answer. One that was not goes on with any text, but answers no question.
    """

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, path: Path, is_chat: bool) -> None:
        self.gpt, self.tokenizer, self.path, self.is_chat = gpt, tokenizer, path, is_chat
        self._engine: Engine | None = None
        self._lock = threading.Lock()  # two threads that ask first must not make an engine each
        run = path.absolute().parent.parent
        self.name = run.parent.name if run.name.startswith("version_") else path.stem

    def __repr__(self) -> str:
        kind = "a chat model" if self.is_chat else "a base model"
        return f"<{self.name}: {kind} of {self.gpt.num_parameters:,} parameters, context {self.context:,}, {self.path}>"

    @property
    def context(self) -> int:
        """Tokens that it can take in and write, all together."""
        return self.gpt.context

    @property
    def engine(self) -> Engine:
        """What writes its texts; made, and compiled on this machine's first time, when it is first needed."""
        with self._lock:
            self._engine = self._engine or Engine(self.gpt, self.tokenizer)
        return self._engine

    def generate(self, prompt: str, **options: Any) -> str:
        """What the model adds to a text.

        Args:
            prompt: the beginning of a text.
            options: as those of :meth:`start`.
        """
        return self._whole(self.start(prompt, **options))

    def chat(self, messages: str | Sequence[Message], **options: Any) -> str:
        """The answer to a question, or to a conversation so far. The calculator's part in it is left out.

        Args:
            messages: a question; or ``[{"role": "user", "content": ...}, ...]``, in which a "system" message may come
                first, and the last is the user's.
            options: as those of :meth:`start`.

        Raises:
            ValueError: also if the model was not fine-tuned.
        """
        return self._whole(self.start(self._conversation(messages), **options))

    def stream(self, messages: str | Sequence[Message], **options: Any) -> Iterator[str]:
        """As :meth:`chat`, or of a base model as :meth:`generate`, in pieces as they come.

        Whoever stops listening stops the model.
        """
        asked = messages if isinstance(messages, str) and not self.is_chat else self._conversation(messages)
        generation = self.start(asked, **options)
        return (text for kind, text in self.engine.stream(generation) if kind == TEXT)

    def start(
        self,
        asked: str | Sequence[Message],
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
        """Puts a text in work, which ``model.engine`` then writes.

        Args:
            asked: a text to go on with, or messages to answer. Of a conversation that is too long for the model the
                oldest turns are left out, which a warning says.
            max_tokens: how many tokens to write at most; None for as many as there is room for.
            temperature: 0 takes the likeliest token each time; 1 draws as the model says; above, more evenly. None
                takes 0.3 for a chat model, and 0.8 for a base model.
            top_k: draw from the likeliest k tokens only; None draws from all.
            top_p: draw from the likeliest tokens that together have this probability.
            min_p: leave out tokens less likely than this share of the likeliest one.
            repetition_penalty: above 1 makes tokens less likely that are in the text already.
            seed: the same seed gives the same text; None takes a new one each time.
            stop: texts before which to end.

        Raises:
            ValueError: if a number is out of range, or what is asked leaves no room in the context.
        """
        settings = Sampling(self.temperature(temperature), top_k, top_p, min_p, repetition_penalty)
        if isinstance(asked, str):
            ids = [self.tokenizer.bos, *self.tokenizer.encode(asked)]
        else:
            kept, dropped = trim(self.tokenizer, asked, self.context, self.room(max_tokens))
            if dropped:
                warnings.warn(f"the oldest {dropped} messages are left out: the model's context is full", stacklevel=3)
            ids = render_prompt(self.tokenizer, kept)
        return self.engine.start(ids, settings, max_tokens, seed, stop)[0]

    def temperature(self, wanted: float | None = None) -> float:
        """The wanted temperature, or the one that suits the model."""
        return TEMPERATURE[self.is_chat] if wanted is None else wanted

    def room(self, max_tokens: int | None = None) -> int:
        """Tokens to keep free for an answer before turns of a conversation are dropped for it."""
        return min(max_tokens or ROOM, self.context // 2)

    def _conversation(self, messages: str | Sequence[Message]) -> Sequence[Message]:
        if not self.is_chat:
            raise ValueError(
                f"{self.path} is a base model, which goes on with a text but answers no question: use generate(), or "
                "make an assistant of it with `fit` and --config configs/chat.yaml"
            )
        return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages

    def _whole(self, generation: Generation) -> str:
        try:
            self.engine.run([generation])
        finally:
            self.engine.cancel(generation)  # after Ctrl-C
        return generation.text


def load(
    what: str | Path | None = None, root: str | Path = ".", device: str = "cpu", program: str = "python cli.py"
) -> Model:
    """Loads a trained model.

    Args:
        what: a checkpoint file; the folder of a run (``lightning_logs/tiny/version_0``); the name of runs, of which the
            newest fine-tuned one is taken, or the newest ("tiny" finds tiny-chat as well); or None for the newest chat
            model of all, or the newest model if none was fine-tuned.
        root: the folder that lightning_logs is in.
        device: where it runs: "cpu", "cuda" or "mps". A small model is quickest on the CPU.
        program: how the user calls the command line, for what an error proposes.

    Raises:
        ValueError: if there is no such model or device, or the file is damaged, in one line that says what to do.
    """
    place = usable_device(device)
    path = find_model(what, root, program)
    saved = read_model(path)
    gpt = saved.gpt
    # copied, as the file may be written anew while the model lives; and assigned, as nothing is there to copy them to
    learned = {name for name, _ in gpt.named_parameters()}
    weights = {name: w.float().clone() if name in learned else w.clone() for name, w in saved.weights.items()}
    gpt.load_state_dict(weights, assign=True)
    gpt.cos, gpt.sin = rotation_table(gpt.context, gpt.config.head_dim)  # no part of a checkpoint
    return Model(gpt.to(place).eval().requires_grad_(False), saved.tokenizer, path, is_chat(path))
