"""Answers in the form of OpenAI's API, whole or as a stream of chunks."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nanochat.inference.generation import TEXT, Generation
from nanochat.serving.worker import Job, Update

DONE = b"data: [DONE]\n\n"


def event(body: Mapping[str, Any]) -> bytes:
    """A server-sent event. In ASCII: no client can cut a character, or take U+2028 in a text for the end of a line."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


class CompletionResponse:
    """The answer to one request.

    Args:
        model: the model's name.
        dropped: how many messages of the conversation were left out.
    """

    prefix, whole_object, chunk_object = "cmpl", "text_completion", "text_completion"

    def __init__(self, model: str, dropped: int = 0) -> None:
        self._head = {"id": f"{self.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._dropped = {"dropped_messages": dropped} if dropped else {}

    def whole(self, job: Job) -> dict[str, Any]:
        """The whole answer, once it is finished."""
        choices = [
            {"index": index, **self._choice(generation), "logprobs": None, "finish_reason": generation.finished}
            for index, generation in enumerate(job.generations)
        ]
        head = {**self._head, "object": self.whole_object, **self._dropped}
        return {**head, "choices": choices, "usage": usage(job)}

    def begin(self, count: int) -> list[dict[str, Any]]:
        """The chunks that come before any text."""
        return []

    def chunks(self, news: Sequence[Update]) -> list[dict[str, Any]]:
        """The chunks for what is new."""
        found: list[dict[str, Any]] = []
        for number, parts, finished in news:
            found += [self._chunk(number, self._delta(kind, text)) for kind, text in parts if self._shows(kind)]
            if finished is not None:
                found.append(self._chunk(number, self._delta(TEXT, ""), finished))
        return found

    def last(self, job: Job) -> dict[str, Any]:
        """What a stream ends with if usage was asked for."""
        return {**self._head, "object": self.chunk_object, "choices": [], "usage": usage(job)}

    def _chunk(self, index: int, choice: Mapping[str, Any], finished: str | None = None) -> dict[str, Any]:
        choices = [{"index": index, **choice, "logprobs": None, "finish_reason": finished}]
        return {**self._head, "object": self.chunk_object, **self._dropped, "choices": choices}

    def _shows(self, kind: str) -> bool:
        return kind == TEXT

    def _choice(self, generation: Generation) -> dict[str, Any]:
        return {"text": generation.text}

    def _delta(self, kind: str, text: str) -> dict[str, Any]:
        return {"text": text}


class ChatResponse(CompletionResponse):
    """The answer to a conversation.

    Its content is what the assistant says. If it used the calculator, the message has "parts" as well: what it says,
    its calls ("python") and their results ("python_output") in their order, which may be sent back as the message's
    content. In a stream a delta has a part instead of content.
    """

    prefix, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def begin(self, count: int) -> list[dict[str, Any]]:
        return [self._chunk(index, {"delta": {"role": "assistant", "content": ""}}) for index in range(count)]

    def _shows(self, kind: str) -> bool:
        return True

    def _choice(self, generation: Generation) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": generation.text, "refusal": None}
        if any(part["type"] != TEXT for part in generation.parts):
            message["parts"] = generation.parts
        return {"message": message}

    def _delta(self, kind: str, text: str) -> dict[str, Any]:
        if kind == TEXT:
            return {"delta": {"content": text} if text else {}}
        return {"delta": {"part": {"type": kind, "text": text}}}


def usage(job: Job) -> dict[str, int]:
    """How many tokens were read and written."""
    read = sum(map(len, job.prompts))
    written = sum(len(generation.tokens) for generation in job.generations)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
