"""The HTTP API, compatible with OpenAI's, and the web page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from nanochat.inference.sampling import Sampling
from nanochat.serving.api_errors import ApiError, add_error_handlers
from nanochat.serving.guard import Guard
from nanochat.serving.model import Model
from nanochat.serving.requests import MAX_TEXTS, ChatRequest, CompletionRequest, TextRequest, read_request
from nanochat.serving.responses import DONE, ChatResponse, CompletionResponse, event
from nanochat.serving.static_files import add_static_routes
from nanochat.serving.trim import trim_messages
from nanochat.serving.worker import Job, QueueFull, Worker, WorkerError
from nanochat.tokenizer import render_prompt

MAX_BODY = 2**20  # bytes of a request's body; about the size of a book
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that has disconnected; it is never sent


def new_app(
    model: Model,
    worker: Worker,
    api_key: str | None = None,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
    per_minute: int = 0,
) -> FastAPI:
    """The ASGI app.

    Args:
        model: the model that answers.
        worker: runs the model's engine.
        api_key: the key that requests must send; None requires none.
        allow_hosts: host names at which the server may be addressed, besides this machine's own.
        allow_origins: origins of other web pages that may use the API, in the form of an Origin header.
        per_minute: the limit of completion requests per minute and client address; 0 for no limit.
    """
    # FastAPI's documentation pages load scripts from a CDN
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    add_error_handlers(app)
    app.add_middleware(
        Guard, api_key=api_key, allow_hosts=allow_hosts, allow_origins=allow_origins, per_minute=per_minute
    )
    if allow_origins:  # outside the guard: an allowed page must be able to read its errors and Retry-After
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allow_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],
        )
    defaults = Sampling(temperature=model.temperature())
    description = {
        "id": model.name,
        "object": "model",
        "created": _modified(model),
        "owned_by": "nanochat",
        "chat": model.is_chat,  # False for a base model, which only continues text
        "context": model.context,
        "parameters": model.gpt.num_parameters,
        "sampling": asdict(defaults),  # the defaults of a request
    }

    @app.get("/health")
    async def health() -> JSONResponse:
        running, queued = worker.load
        body = {"status": "ok" if worker.alive else "stopping", "working": running, "waiting": queued}
        return JSONResponse(body, 200 if worker.alive else 503)

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [description]}

    @app.get("/v1/models/{name:path}")
    async def retrieve_model(name: str) -> dict[str, Any]:
        _check_name(name, model)
        return description

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        body = await read_request(request, ChatRequest, MAX_BODY)
        _check_name(body.model, model)
        if not model.is_chat:
            message = f"{model.name} is a base model: use /v1/completions, or fine-tune it with configs/chat.yaml"
            raise ApiError(400, message, "not_a_chat_model")
        prompt, dropped = await asyncio.to_thread(_chat_prompt, model, body)
        job = Job([prompt], body.sampling(defaults), body.token_limit, body.seed, body.stops, body.count)
        return await _respond(request, worker, body, job, ChatResponse(model.name, dropped))

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await read_request(request, TextRequest, MAX_BODY)
        _check_name(body.model, model)
        prompts = await asyncio.to_thread(_text_prompts, model, body)
        job = Job(prompts, body.sampling(defaults), body.max_tokens, body.seed, body.stops, body.count)
        return await _respond(request, worker, body, job, CompletionResponse(model.name))

    add_static_routes(app)
    return app


def _modified(model: Model) -> int:
    return int(model.path.stat().st_mtime) if model.path.is_file() else 0


def _check_name(name: str | None, model: Model) -> None:
    if name is not None and name != model.name:
        raise ApiError(404, f"there is no model {name!r} here, only {model.name!r}", "model_not_found", "model")


def _chat_prompt(model: Model, body: ChatRequest) -> tuple[list[int], int]:
    """The token ids of a conversation, and the number of its messages that were dropped."""
    try:
        reserved = model.answer_tokens(body.token_limit)
        kept, dropped = trim_messages(model.tokenizer, body.conversation, model.context, reserved)
        return render_prompt(model.tokenizer, kept), dropped
    except ValueError as error:
        code = "context_length_exceeded" if "too long" in str(error) else None
        raise ApiError(400, str(error), code, "messages") from None


def _text_prompts(model: Model, body: TextRequest) -> list[list[int]]:
    """The token ids of each prompt."""
    if not 1 <= len(body.prompts) * body.count <= MAX_TEXTS:
        raise ApiError(400, f"one request may ask for 1 to {MAX_TEXTS} texts", param="prompt")
    found: list[list[int]] = []
    for prompt in body.prompts:
        ids = [model.tokenizer.bos, *model.tokenizer.encode(prompt)] if isinstance(prompt, str) else prompt
        if not ids or min(ids) < 0 or max(ids) >= model.tokenizer.vocab_size:
            raise ApiError(400, f"the prompt's ids must be from 0 to {model.tokenizer.vocab_size - 1}", param="prompt")
        if len(ids) >= model.context:
            message = f"the prompt is too long: {len(ids)} tokens leave no room in the context of {model.context}"
            raise ApiError(400, message, "context_length_exceeded", "prompt")
        found.append(ids)
    return found


async def _respond(
    request: Request, worker: Worker, body: CompletionRequest, job: Job, response: CompletionResponse
) -> Response:
    if job.size > worker.max_concurrency:
        message = f"this server writes at most {worker.max_concurrency} texts at once: ask for fewer"
        raise ApiError(400, message, param="n")
    try:
        worker.submit(job)
    except QueueFull:
        message = "the server's queue is full: try again in a moment"
        raise ApiError(429, message, "queue_full", headers={"Retry-After": "1"}) from None
    except WorkerError as error:
        raise ApiError(503, str(error)) from None
    if body.stream:
        return _EventStream(job, worker, response, body.includes_usage)
    return await _whole(request, job, worker, response)


async def _whole(request: Request, job: Job, worker: Worker, response: CompletionResponse) -> Response:
    """The response once the job is finished. If the client disconnects first, the job is cancelled."""

    async def finished() -> None:
        async for _ in job.updates():
            pass

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(finished()), asyncio.ensure_future(disconnected())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        tasks[0].result()
    except WorkerError as error:
        raise ApiError(503, str(error)) from None
    finally:
        worker.cancel(job)
        for task in tasks:
            task.cancel()
    return JSONResponse(response.whole(job))


class _EventStream(StreamingResponse):
    """The response as server-sent events. If the client disconnects, the job is cancelled."""

    def __init__(self, job: Job, worker: Worker, response: CompletionResponse, includes_usage: bool) -> None:
        self._job, self._worker = job, worker
        # X-Accel-Buffering: a proxy that buffers the response would delay the text
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_events(job, response, includes_usage), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._worker.cancel(self._job)


async def _events(job: Job, response: CompletionResponse, includes_usage: bool) -> AsyncIterator[bytes]:
    no_usage = {"usage": None} if includes_usage else {}
    try:
        if first := response.first_chunks(job.size):
            yield b"".join(event({**chunk, **no_usage}) for chunk in first)
        async for updates in job.updates():  # everything that arrived during the last send, in one write
            yield b"".join(event({**chunk, **no_usage}) for chunk in response.chunks(updates))
        if includes_usage:
            yield event(response.usage_chunk(job))
        yield DONE
    except WorkerError as error:
        yield event(ApiError(503, str(error)).body)
