"""What a request may ask for: OpenAI's fields and some of ours, each checked, in words that say what to change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import ClientDisconnect

from nanochat.inference.sampling import Sampling
from nanochat.serving.api_errors import ApiError

PATIENCE = 20.0  # seconds in which a request has to arrive: its head, and then its body
MOST_MESSAGES = 1000
MOST_TEXTS = 16  # that one request may ask for
MOST_STOPS = 16
# Fields of OpenAI's that would change the answer in a way that we cannot, each with the values that ask for nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}
# Those that do not change it.
WITHOUT_EFFECT = (
    *("user", "metadata", "store", "service_tier", "safety_identifier", "parallel_tool_calls", "reasoning_effort"),
    *("verbosity", "prompt_cache_key", "prompt_cache_retention"),
)


class Strict(BaseModel):
    """Nothing is guessed: "0.7" is no number, and a field with a typing error in its name is none of these."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    """How to stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # of no use here, but clients may say so


class CompletionRequest(Strict):
    """What both kinds of requests have; null is as good as nothing."""

    model: str | None = Field(None, max_length=200)
    max_tokens: int | None = Field(None, ge=1, le=10**9)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=10**9)  # 0: all
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.1, le=10)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    n: int | None = Field(None, ge=1, le=MOST_TEXTS)
    stop: str | list[str] | None = Field(None, max_length=1000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_changes_nothing(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name, values in NEUTRAL.items():
            if data.get(name) is not None and data[name] not in values:
                raise ValueError(f"{name} is not possible here: leave it out")
        return {name: value for name, value in data.items() if name not in NEUTRAL and name not in WITHOUT_EFFECT}

    @model_validator(mode="after")
    def _few_stops(self) -> CompletionRequest:
        if len(self.stops) > MOST_STOPS:
            raise ValueError(f"stop may have at most {MOST_STOPS} texts")
        return self

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def count(self) -> int:
        """How many texts for each prompt."""
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, usual: Sampling) -> Sampling:
        """How tokens are chosen: as usual where nothing else is said."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if given.get("top_k") == 0:
            given["top_k"] = None
        return replace(usual, **given)


class ChatRequest(CompletionRequest):
    """``/v1/chat/completions``. What a conversation is, :func:`nanochat.tokenizer.conversation.render` says."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1, le=10**9)

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """The messages; OpenAI's newer name for the system is "developer"."""
        return [{**m, "role": "system"} if m.get("role") == "developer" else m for m in self.messages]


class TextRequest(CompletionRequest):
    """``/v1/completions``: texts to go on with, or their token ids."""

    prompt: str | list[str] | list[int] | list[list[int]]

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        prompt: Any = self.prompt
        return [prompt] if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)) else prompt


W = TypeVar("W", bound=CompletionRequest)


async def read_request(request: Request, kind: type[W], most_bytes: int) -> W:
    """The body of a request as a wish.

    Raises:
        ApiError: if it is too large, too slow, or not what it should be.
    """
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != "application/json":  # another one could be sent by a form on any web page
        raise ApiError(415, "the content type must be application/json")
    try:
        return kind.model_validate_json(await asyncio.wait_for(_body(request, most_bytes), PATIENCE))
    except ValidationError as error:
        raise _explained(error) from None
    except asyncio.TimeoutError:
        raise ApiError(408, f"the body did not arrive within {PATIENCE:.0f} seconds") from None
    except ClientDisconnect:
        raise ApiError(400, "the body ended early") from None


async def _body(request: Request, most_bytes: int) -> bytes:
    too_large = ApiError(413, f"the body may have at most {most_bytes:,} bytes", headers={"Connection": "close"})
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most_bytes:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most_bytes:
            raise too_large
    return bytes(body)


def _explained(error: ValidationError) -> ApiError:
    """The first of pydantic's complaints."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    fields = [part for part in first["loc"] if isinstance(part, int) or part.isidentifier()]
    # of a union pydantic names the alternative that it tried, after the field
    where = ".".join(map(str, fields if len(fields) < 2 or isinstance(fields[1], int) else fields[:1]))
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"there is no field {str(first['loc'][-1])!r}", param=str(first["loc"][-1])[:100])
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{where}: {message}" if where else message, param=where or None)
