"""Response bodies in the format of OpenAI's API: one JSON object, or a stream of chunks."""

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
    """A server-sent event with a JSON body.

    The JSON is ASCII: no client can split a multi-byte character, or take a U+2028 in the text for a line break.
    """
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


class CompletionResponse:
    """The response to a request for text completions.

    Args:
        model: the model's name.
        dropped: the number of messages of the conversation that were left out.
    """

    prefix, whole_object, chunk_object = "cmpl", "text_completion", "text_completion"

    def __init__(self, model: str, dropped: int = 0) -> None:
        self._head = {"id": f"{self.prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._dropped = {"dropped_messages": dropped} if dropped else {}

    def whole(self, job: Job) -> dict[str, Any]:
        """The complete response. Every text of the job must be finished."""
        choices = [
            {"index": index, **self._choice(generation), "logprobs": None, "finish_reason": generation.finished}
            for index, generation in enumerate(job.generations)
        ]
        head = {**self._head, "object": self.whole_object, **self._dropped}
        return {**head, "choices": choices, "usage": usage(job)}

    def first_chunks(self, count: int) -> list[dict[str, Any]]:
        """The chunks that precede the text, for ``count`` choices."""
        return []

    def chunks(self, updates: Sequence[Update]) -> list[dict[str, Any]]:
        """The chunks for new text, and for texts that have finished."""
        found: list[dict[str, Any]] = []
        for index, parts, finished in updates:
            found += [self._chunk(index, self._delta(kind, text)) for kind, text in parts if self._includes(kind)]
            if finished is not None:
                found.append(self._chunk(index, self._delta(TEXT, ""), finished))
        return found

    def usage_chunk(self, job: Job) -> dict[str, Any]:
        """The last chunk of a stream whose request set ``include_usage``."""
        return {**self._head, "object": self.chunk_object, "choices": [], "usage": usage(job)}

    def _chunk(self, index: int, choice: Mapping[str, Any], finished: str | None = None) -> dict[str, Any]:
        choices = [{"index": index, **choice, "logprobs": None, "finish_reason": finished}]
        return {**self._head, "object": self.chunk_object, **self._dropped, "choices": choices}

    def _includes(self, kind: str) -> bool:
        return kind == TEXT

    def _choice(self, generation: Generation) -> dict[str, Any]:
        return {"text": generation.text}

    def _delta(self, kind: str, text: str) -> dict[str, Any]:
        return {"text": text}


class ChatResponse(CompletionResponse):
    """The response to a chat request.

    ``content`` is the assistant's text. If the assistant used the calculator, the message also has ``parts``: its text,
    its calls ("python") and their results ("python_output"), in order. A client may send ``parts`` back as the
    message's content. In a stream, calls and results arrive as a delta with ``part`` instead of ``content``.
    """

    prefix, whole_object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def first_chunks(self, count: int) -> list[dict[str, Any]]:
        return [self._chunk(index, {"delta": {"role": "assistant", "content": ""}}) for index in range(count)]

    def _includes(self, kind: str) -> bool:
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
    """The number of prompt and completion tokens of a job."""
    prompt_tokens = sum(map(len, job.prompts))
    completion_tokens = sum(len(generation.tokens) for generation in job.generations)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
