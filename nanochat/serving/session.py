"""One conversation with a model: what was said, what is asked next, and what can be taken back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nanochat.cache import write_atomically
from nanochat.inference.generation import TEXT, Generation
from nanochat.inference.sampling import Sampling
from nanochat.serving.model import Model
from nanochat.serving.trim import trim
from nanochat.tokenizer import render_prompt
from nanochat.tokenizer.conversation import check_messages

Chunk = tuple[str, str]  # kind and text, as of Generation.take
ChatMessage = dict[str, Any]  # a message


class AnswerStats(NamedTuple):
    """What an answer took.

    Attributes:
        prompt_tokens: that the model had to read.
        tokens: that it wrote.
        waited: seconds until it wrote the first.
        seconds: in all.
        finished: why it ended, as of :class:`Generation`.
    """

    prompt_tokens: int
    tokens: int
    waited: float
    seconds: float
    finished: str

    @property
    def speed(self) -> float:
        """Tokens a second, once it has begun to write."""
        return max(self.tokens - 1, 0) / max(self.seconds - self.waited, 1e-9)


@dataclass
class Session:
    """A conversation that goes on. A base model knows none: it goes on with each text as if there were no other.

    Attributes:
        model: who answers.
        settings: how tokens are chosen.
        max_tokens: of an answer; None for as many as there is room for.
        seed: of the first answer; each later one takes the next. None takes a new one each time.
        system: what the model is told before the first question, if anything.
        messages: what was said, without the system message. They end with an answer, or with a question that was not
            answered yet because it came out of a file.
        dropped: how many of the oldest messages the last answer was given without, for want of room.
        turns: what the answers so far took, those included that were taken back.
    """

    model: Model
    settings: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    seed: int | None = None
    system: str = ""
    messages: list[ChatMessage] = field(default_factory=list)
    dropped: int = 0
    turns: list[AnswerStats] = field(default_factory=list)

    def ask(self, question: str, stopped: Callable[[], bool] = lambda: False) -> Generator[Chunk, None, None]:
        """Asks, and returns the answer in pieces as they come; question and answer are then part of the conversation.

        Args:
            question: what to ask; for a base model the beginning of a text.
            stopped: whether to end here, asked after each token. What has been said by then is kept.

        Raises:
            ValueError: at once, if the question leaves no room for an answer.
        """
        asked: ChatMessage = {"role": "user", "content": question}
        ids = self._prompt([*self.messages, asked])
        seed = None if self.seed is None else self.seed + len(self.turns)
        (generation,) = self.model.engine.start(ids, self.settings, self.max_tokens, seed)
        return self._answer(generation, asked, stopped)

    def _prompt(self, messages: list[ChatMessage]) -> list[int]:
        tokenizer = self.model.tokenizer
        if not self.model.is_chat:
            self.dropped = 0
            return [tokenizer.bos, *tokenizer.encode(messages[-1]["content"])]
        system: list[ChatMessage] = [{"role": "system", "content": self.system}] if self.system else []
        room = self.model.room(self.max_tokens)
        kept, self.dropped = trim(tokenizer, [*system, *messages], self.model.context, room)
        return render_prompt(tokenizer, kept)

    def _answer(
        self, generation: Generation, asked: ChatMessage, stopped: Callable[[], bool]
    ) -> Generator[Chunk, None, None]:
        engine, began, waited = self.model.engine, time.perf_counter(), 0.0
        try:
            while generation.finished is None and not stopped():
                engine.step()
                if not waited and generation.tokens:
                    waited = time.perf_counter() - began
                yield from generation.take()
            engine.cancel(generation)
            yield from generation.take()
        finally:
            engine.cancel(generation)  # also where whoever listened has gone
            if generation.parts or generation.finished != "cancelled":
                self.messages += [asked, {"role": "assistant", "content": _content(generation)}]
            seconds = time.perf_counter() - began
            counts = generation.prompt_tokens, len(generation.tokens)
            self.turns.append(AnswerStats(*counts, waited or seconds, seconds, generation.finished or "cancelled"))

    def take_back(self) -> str | None:
        """Takes back the last question and its answer; returns the question, or None if there is none."""
        place = next((n for n in range(len(self.messages) - 1, -1, -1) if self.messages[n]["role"] == "user"), None)
        if place is None:
            return None
        question = message_text(self.messages[place])
        del self.messages[place:]
        return question

    def clear(self) -> None:
        """Begins a new conversation; the system message stays."""
        self.messages.clear()

    def save(self, path: Path) -> None:
        """Writes the conversation as JSON: ``{"messages": [...]}``.

        Raises:
            ValueError: if there is another kind of file of that name.
        """
        if path.exists():
            try:
                read_conversation(path)
            except ValueError as error:
                raise ValueError(f"{path} exists and is no conversation: give another name") from error
        system = [{"role": "system", "content": self.system}] if self.system else []
        text = json.dumps({"messages": [*system, *self.messages]}, indent=2, ensure_ascii=False)
        write_atomically(path, text + "\n")

    def load(self, path: Path) -> None:
        """Goes on with a conversation out of a file.

        Raises:
            ValueError: if the file holds none; the conversation then stays as it was.
        """
        messages = read_conversation(path)
        self.system = message_text(messages.pop(0)) if messages[0]["role"] == "system" else ""
        self.messages = messages


def _content(generation: Generation) -> Any:
    """Of an answer: a plain text, or parts where the calculator had its part in it."""
    return generation.text if all(part["type"] == TEXT for part in generation.parts) else generation.parts


def message_text(message: ChatMessage) -> str:
    """The text of a message, without what the calculator was asked."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content if part["type"] == TEXT)


def read_conversation(path: Path) -> list[ChatMessage]:
    """The messages in a file.

    Raises:
        ValueError: if it holds no conversation, in one line that names it.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading might never end
            raise ValueError("it is a device or a pipe")
        content = json.loads(path.read_text(encoding="utf-8"))
        messages = content.get("messages") if isinstance(content, dict) else None
        if messages is None:
            raise ValueError('it has no {"messages": [...]}')
        check_messages(messages)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no conversation: {error}") from error
    return list(messages)
