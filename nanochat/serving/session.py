"""One conversation with a model: its messages, new questions, undo, and files to save and load it."""

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
from nanochat.serving.trim import trim_messages
from nanochat.tokenizer import render_prompt
from nanochat.tokenizer.conversation import check_messages

Chunk = tuple[str, str]  # kind and text, as returned by Generation.take
ChatMessage = dict[str, Any]  # {"role": ..., "content": ...}


class AnswerStats(NamedTuple):
    """Tokens and times of one answer.

    Attributes:
        prompt_tokens: the number of tokens of the prompt.
        tokens: the number of tokens of the answer.
        first_token_seconds: the time to the first token.
        seconds: the total time.
        finished: the finish reason (:class:`Generation`).
    """

    prompt_tokens: int
    tokens: int
    first_token_seconds: float
    seconds: float
    finished: str

    @property
    def speed(self) -> float:
        """Tokens per second after the first token."""
        return max(self.tokens - 1, 0) / max(self.seconds - self.first_token_seconds, 1e-9)


@dataclass
class Session:
    """A conversation. A base model has none: it continues each text independently of the others.

    Attributes:
        model: the model that answers.
        settings: sampling settings.
        max_tokens: the limit of tokens per answer; None for as many as the context has room for.
        seed: the seed of the first answer; each later answer takes the next number. None takes a new one each time.
        system: the system message; "" for none.
        messages: the conversation without the system message. It ends with an answer, or with an unanswered question
            if it was loaded from a file.
        dropped: the number of the oldest messages that did not fit into the context for the last answer.
        stats: one entry per answer, including answers that were undone.
    """

    model: Model
    settings: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    seed: int | None = None
    system: str = ""
    messages: list[ChatMessage] = field(default_factory=list)
    dropped: int = 0
    stats: list[AnswerStats] = field(default_factory=list)

    def ask(self, question: str, stopped: Callable[[], bool] = lambda: False) -> Generator[Chunk, None, None]:
        """Asks a question, and returns a generator of the answer's chunks.

        The question and the answer are added to the conversation when the generator ends or is closed.

        Args:
            question: the question; for a base model the beginning of a text.
            stopped: called after each token; True ends the answer. The text so far is kept.

        Raises:
            ValueError: immediately, if the question leaves no room for an answer.
        """
        message: ChatMessage = {"role": "user", "content": question}
        ids = self._prompt([*self.messages, message])
        seed = None if self.seed is None else self.seed + len(self.stats)
        (generation,) = self.model.engine.start(ids, self.settings, self.max_tokens, seed)
        return self._answer(generation, message, stopped)

    def _prompt(self, messages: list[ChatMessage]) -> list[int]:
        tokenizer = self.model.tokenizer
        if not self.model.is_chat:
            self.dropped = 0
            return [tokenizer.bos, *tokenizer.encode(messages[-1]["content"])]
        reserved = self.model.answer_tokens(self.max_tokens)
        kept, self.dropped = trim_messages(tokenizer, [*self._system(), *messages], self.model.context, reserved)
        return render_prompt(tokenizer, kept)

    def _system(self) -> list[ChatMessage]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def _answer(
        self, generation: Generation, question: ChatMessage, stopped: Callable[[], bool]
    ) -> Generator[Chunk, None, None]:
        engine, start, first_token_seconds = self.model.engine, time.perf_counter(), 0.0
        try:
            while generation.finished is None and not stopped():
                engine.step()
                if not first_token_seconds and generation.tokens:
                    first_token_seconds = time.perf_counter() - start
                yield from generation.take()
            engine.cancel(generation)
            yield from generation.take()
        finally:
            engine.cancel(generation)  # also if the generator was closed
            if generation.parts or generation.finished != "cancelled":
                self.messages += [question, {"role": "assistant", "content": _content(generation)}]
            seconds = time.perf_counter() - start
            self.stats.append(
                AnswerStats(
                    prompt_tokens=generation.prompt_tokens,
                    tokens=len(generation.tokens),
                    first_token_seconds=first_token_seconds or seconds,
                    seconds=seconds,
                    finished=generation.finished or "cancelled",
                )
            )

    def undo(self) -> str | None:
        """Removes the last question and its answer; returns the question, or None if there is none."""
        index = next((n for n in range(len(self.messages) - 1, -1, -1) if self.messages[n]["role"] == "user"), None)
        if index is None:
            return None
        question = message_text(self.messages[index])
        del self.messages[index:]
        return question

    def clear(self) -> None:
        """Starts a new conversation; the system message is kept."""
        self.messages.clear()

    def save(self, path: Path) -> None:
        """Writes the conversation as JSON: ``{"messages": [...]}``.

        Raises:
            ValueError: if the file exists and is not a conversation.
        """
        if path.exists():
            try:
                read_conversation(path)
            except ValueError as error:
                raise ValueError(f"{path} exists and is not a conversation: give another name") from error
        text = json.dumps({"messages": [*self._system(), *self.messages]}, indent=2, ensure_ascii=False)
        write_atomically(path, text + "\n")

    def load(self, path: Path) -> None:
        """Continues a conversation from a file.

        Raises:
            ValueError: if the file is not a conversation; the current one is then unchanged.
        """
        messages = read_conversation(path)
        self.system = message_text(messages.pop(0)) if messages[0]["role"] == "system" else ""
        self.messages = messages


def _content(generation: Generation) -> Any:
    """The content of an answer's message: plain text, or parts if the calculator was used."""
    return generation.text if all(part["type"] == TEXT for part in generation.parts) else generation.parts


def message_text(message: ChatMessage) -> str:
    """The text of a message, without the calls of the calculator."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content if part["type"] == TEXT)


def read_conversation(path: Path) -> list[ChatMessage]:
    """The messages in a file.

    Raises:
        ValueError: if the file is not a conversation, in one line with its name.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading it might block forever
            raise ValueError("it is a device or a pipe")
        content = json.loads(path.read_text(encoding="utf-8"))
        messages = content.get("messages") if isinstance(content, dict) else None
        if messages is None:
            raise ValueError('there is no {"messages": [...]} in it')
        check_messages(messages)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a conversation: {error}") from error
    return list(messages)
