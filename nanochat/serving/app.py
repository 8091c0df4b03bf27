"""The HTTP API: OpenAI's addresses, and the page."""

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
from nanochat.serving import static_files
from nanochat.serving.api_errors import ApiError, install
from nanochat.serving.guard import Guard
from nanochat.serving.model import Model
from nanochat.serving.requests import MOST_TEXTS, ChatRequest, CompletionRequest, TextRequest, read_request
from nanochat.serving.responses import DONE, ChatResponse, CompletionResponse, event
from nanochat.serving.trim import trim
from nanochat.serving.worker import Job, QueueFull, Worker, WorkerError
from nanochat.tokenizer import render_prompt

MOST_BYTES = 2**20  # of a request's body: a book has about as many
CLOSED = 499  # what nginx calls a client that went away; nobody hears it


def new_app(
    model: Model,
    worker: Worker,
    api_key: str | None = None,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
    per_minute: int = 0,
) -> FastAPI:
    """The app that uvicorn serves.

    Args:
        model: the model that answers.
        worker: runs its engine.
        api_key: what requests must bring, if it is not None.
        allow_hosts: names that the server may be addressed by, besides this machine's.
        allow_origins: origins of other pages that may use it, as browsers send them.
        per_minute: requests to write something, from each address; 0 for any number.
    """
    # FastAPI's own pages load scripts from elsewhere
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    install(app)
    app.add_middleware(
        Guard, api_key=api_key, allow_hosts=allow_hosts, allow_origins=allow_origins, per_minute=per_minute
    )
    if allow_origins:  # around the guard: such a page is to read its refusals, and when to come back
        app.add_middleware(
            CORSMiddleware,
            allow_origins=allow_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],
        )
    usual = Sampling(temperature=model.temperature())
    about = {
        "id": model.name,
        "object": "model",
        "created": _modified(model),
        "owned_by": "nanochat",
        "chat": model.is_chat,  # whether it answers; otherwise it only goes on with a text
        "context": model.context,
        "parameters": model.gpt.num_parameters,
        "sampling": asdict(usual),  # what is done unless a request says otherwise
    }

    @app.get("/health")
    async def health() -> JSONResponse:
        working, waiting = worker.load
        body = {"status": "ok" if worker.alive else "stopping", "working": working, "waiting": waiting}
        return JSONResponse(body, 200 if worker.alive else 503)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [about]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        _check_name(name, model)
        return about

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        wish = await read_request(request, ChatRequest, MOST_BYTES)
        _check_name(wish.model, model)
        if not model.is_chat:
            message = f"{model.name} only goes on with a text: use /v1/completions, or fine-tune it (configs/chat.yaml)"
            raise ApiError(400, message, "not_a_chat_model")
        prompt, dropped = await asyncio.to_thread(_conversation, model, wish)
        job = Job([prompt], wish.sampling(usual), wish.most_tokens, wish.seed, wish.stops, wish.count)
        return await _answer(request, worker, wish, job, ChatResponse(model.name, dropped))

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        wish = await read_request(request, TextRequest, MOST_BYTES)
        _check_name(wish.model, model)
        prompts = await asyncio.to_thread(_prompts, model, wish)
        job = Job(prompts, wish.sampling(usual), wish.max_tokens, wish.seed, wish.stops, wish.count)
        return await _answer(request, worker, wish, job, CompletionResponse(model.name))

    static_files.install(app)
    return app


def _modified(model: Model) -> int:
    return int(model.path.stat().st_mtime) if model.path.is_file() else 0


def _check_name(name: str | None, model: Model) -> None:
    if name is not None and name != model.name:
        raise ApiError(404, f"there is no model {name!r} here, only {model.name!r}", "model_not_found", "model")


def _conversation(model: Model, wish: ChatRequest) -> tuple[list[int], int]:
    """The token ids of a conversation, and how many of its messages were left out."""
    try:
        kept, dropped = trim(model.tokenizer, wish.conversation, model.context, model.room(wish.most_tokens))
        return render_prompt(model.tokenizer, kept), dropped
    except ValueError as error:
        code = "context_length_exceeded" if "too long" in str(error) else None
        raise ApiError(400, str(error), code, "messages") from None


def _prompts(model: Model, wish: TextRequest) -> list[list[int]]:
    if not 1 <= len(wish.prompts) * wish.count <= MOST_TEXTS:
        raise ApiError(400, f"one request may ask for 1 to {MOST_TEXTS} texts", param="prompt")
    found: list[list[int]] = []
    for prompt in wish.prompts:
        ids = [model.tokenizer.bos, *model.tokenizer.encode(prompt)] if isinstance(prompt, str) else prompt
        if not ids or min(ids) < 0 or max(ids) >= model.tokenizer.vocab_size:
            raise ApiError(400, f"the prompt must be ids from 0 to {model.tokenizer.vocab_size - 1}", param="prompt")
        if len(ids) >= model.context:
            message = f"the prompt is too long: {len(ids)} tokens leave no room in the context of {model.context}"
            raise ApiError(400, message, "context_length_exceeded", "prompt")
        found.append(ids)
    return found


async def _answer(
    request: Request, worker: Worker, wish: CompletionRequest, job: Job, answer: CompletionResponse
) -> Response:
    if job.size > worker.at_once:
        raise ApiError(400, f"this server writes {worker.at_once} texts at once: ask for fewer", param="n")
    try:
        worker.submit(job)
    except QueueFull:
        message = "as many texts as this server takes are waiting already: try again in a moment"
        raise ApiError(429, message, "queue_full", headers={"Retry-After": "1"}) from None
    except WorkerError as error:
        raise ApiError(503, str(error)) from None
    if wish.stream:
        return _Events(job, worker, answer, wish.includes_usage)
    return await _whole(request, job, worker, answer)


async def _whole(request: Request, job: Job, worker: Worker, answer: CompletionResponse) -> Response:
    """The answer once it is finished, unless the client goes away before."""

    async def finish() -> None:
        async for _ in job.news():
            pass

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(finish()), asyncio.ensure_future(leave())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            return Response(status_code=CLOSED)
        tasks[0].result()
    except WorkerError as error:
        raise ApiError(503, str(error)) from None
    finally:
        worker.cancel(job)
        for task in tasks:
            task.cancel()
    return JSONResponse(answer.whole(job))


class _Events(StreamingResponse):
    """The answer as it is written, in server-sent events. Whoever goes away ends it."""

    def __init__(self, job: Job, worker: Worker, answer: CompletionResponse, includes_usage: bool) -> None:
        self._job, self._worker = job, worker
        # (a proxy that collects what it passes on would hold up the text)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_events(job, answer, includes_usage), media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._worker.cancel(self._job)


async def _events(job: Job, answer: CompletionResponse, includes_usage: bool) -> AsyncIterator[bytes]:
    no_usage = {"usage": None} if includes_usage else {}
    try:
        if begin := answer.begin(job.size):
            yield b"".join(event({**chunk, **no_usage}) for chunk in begin)
        async for news in job.news():  # all that has come while the last of it was sent, in one go
            yield b"".join(event({**chunk, **no_usage}) for chunk in answer.chunks(news))
        if includes_usage:
            yield event(answer.last(job))
        yield DONE
    except WorkerError as error:
        yield event(ApiError(503, str(error)).body)
