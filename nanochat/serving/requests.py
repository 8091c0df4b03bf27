"""Request bodies of the API: OpenAI's fields and a few more, validated with errors that name what to change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import ClientDisconnect

from nanochat.inference.sampling import Sampling
from nanochat.serving.api_errors import ApiError

READ_TIMEOUT = 20.0  # seconds for the head of a request to arrive, and as many for its body
MAX_MESSAGES = 1000
MAX_TEXTS = 16  # per request
MAX_STOPS = 16
# OpenAI's fields that would change the answer and are not supported, each with the values that request nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
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
# OpenAI's fields that do not change the answer.
IGNORED = (
    *("user", "metadata", "store", "service_tier", "safety_identifier", "parallel_tool_calls", "reasoning_effort"),
    *("verbosity", "prompt_cache_key", "prompt_cache_retention"),
)


class Strict(BaseModel):
    """A model that converts no types and rejects unknown fields: "0.7" is no number, and a misspelt field an error."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    """Options of a streamed response."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # accepted for OpenAI's clients, without effect


class CompletionRequest(Strict):
    """The fields that both kinds of requests share. null is the same as leaving a field out."""

    model: str | None = Field(None, max_length=200)
    max_tokens: int | None = Field(None, ge=1, le=10**9)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=10**9)  # 0 for no limit
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.1, le=10)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    n: int | None = Field(None, ge=1, le=MAX_TEXTS)
    stop: str | list[str] | None = Field(None, max_length=1000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_fields_without_effect(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name, values in UNSUPPORTED.items():
            if data.get(name) is not None and data[name] not in values:
                raise ValueError(f"{name} is not supported: leave it out")
        return {name: value for name, value in data.items() if name not in UNSUPPORTED and name not in IGNORED}

    @model_validator(mode="after")
    def _check_stops(self) -> CompletionRequest:
        if len(self.stops) > MAX_STOPS:
            raise ValueError(f"stop may have at most {MAX_STOPS} texts")
        return self

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def count(self) -> int:
        """The number of texts per prompt."""
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, defaults: Sampling) -> Sampling:
        """The sampling settings: the request's where it has any, else the defaults."""
        names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if given.get("top_k") == 0:
            given["top_k"] = None
        return replace(defaults, **given)


class ChatRequest(CompletionRequest):
    """The body of ``/v1/chat/completions``. :func:`nanochat.tokenizer.conversation.render` defines the messages."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1, le=10**9)

    @property
    def token_limit(self) -> int | None:
        """The limit of new tokens, under OpenAI's new name or its old one."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """The messages, with OpenAI's newer role "developer" as "system"."""
        return [{**m, "role": "system"} if m.get("role") == "developer" else m for m in self.messages]


class TextRequest(CompletionRequest):
    """The body of ``/v1/completions``: prompts as text or as token ids."""

    prompt: str | list[str] | list[int] | list[list[int]]

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        prompt: Any = self.prompt
        return [prompt] if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)) else prompt


R = TypeVar("R", bound=CompletionRequest)


async def read_request(request: Request, kind: type[R], max_body: int) -> R:
    """Reads and validates the body of a request.

    Args:
        request: the HTTP request.
        kind: the model of its body.
        max_body: the limit of the body's size, in bytes.

    Raises:
        ApiError: if the body is too large, does not arrive in time, or is invalid.
    """
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":  # a form on any web page can send the other types without a CORS check
        raise ApiError(415, "the content type must be application/json")
    try:
        return kind.model_validate_json(await asyncio.wait_for(_read_body(request, max_body), READ_TIMEOUT))
    except ValidationError as error:
        raise _api_error(error) from None
    except asyncio.TimeoutError:
        raise ApiError(408, f"the body did not arrive within {READ_TIMEOUT:.0f} seconds") from None
    except ClientDisconnect:
        raise ApiError(400, "the body ended early") from None


async def _read_body(request: Request, max_body: int) -> bytes:
    too_large = ApiError(413, f"the body may have at most {max_body:,} bytes", headers={"Connection": "close"})
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_body:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_body:
            raise too_large
    return bytes(body)


def _api_error(error: ValidationError) -> ApiError:
    """The first of pydantic's errors, as a response."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    fields = [part for part in first["loc"] if isinstance(part, int) or part.isidentifier()]
    # for a union, pydantic appends the alternative that it tried to the field's name
    field = ".".join(map(str, fields if len(fields) < 2 or isinstance(fields[1], int) else fields[:1]))
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"there is no field {str(first['loc'][-1])!r}", param=str(first["loc"][-1])[:100])
    message = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{field}: {message}" if field else message, param=field or None)
