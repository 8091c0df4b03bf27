"""A load test: 64 concurrent clients for a minute."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import time
from typing import Any

import httpx2 as httpx
import psutil
import pytest

from nanochat.inference.sampling import Sampling
from nanochat.tokenizer import render_prompt
from tests.serving.tools import random_model, running_server, wait_until

CLIENTS, QUESTIONS, TOKENS = 64, 40, 60
SECONDS = float(os.environ.get("LOAD_SECONDS", "60"))


def question(number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Question {number}: {'why? ' * (number % 9)}"}]
    return {"messages": messages, "seed": number, "max_tokens": TOKENS, "temperature": 1.0}


def expected_answers() -> list[str]:
    """The answer to each question without batching."""
    model = random_model()
    prompts = [render_prompt(model.tokenizer, question(n)["messages"]) for n in range(QUESTIONS)]
    texts = []
    for number, prompt in enumerate(prompts):
        generation = model.engine.start(prompt, Sampling(temperature=1.0), TOKENS, number)[0]
        model.engine.run([generation])
        texts.append(generation.text)
    assert len(set(texts)) == QUESTIONS
    return texts


@pytest.mark.slow
def test_64_clients_get_their_answers_and_memory_is_constant() -> None:
    answers = expected_answers()
    counts = {"answered": 0, "refused": 0, "disconnected": 0}
    memory: list[float] = []

    async def client(http: httpx.AsyncClient, rng: random.Random, end: float) -> None:
        while time.monotonic() < end:
            number = rng.randrange(QUESTIONS)
            kind = rng.random()
            if kind < 0.4:
                reply = await http.post("/v1/chat/completions", json=question(number))
                status = reply.status_code
                text = reply.json()["choices"][0]["message"]["content"] if status == 200 else ""
            else:
                text, disconnects = "", kind > 0.9
                body = {**question(number), "stream": True}
                async with http.stream("POST", "/v1/chat/completions", json=body) as stream:
                    status = stream.status_code
                    ended = status != 200
                    async for line in stream.aiter_lines():
                        if status == 200 and line == "data: [DONE]":
                            ended = True
                        elif status == 200 and line:
                            choice = json.loads(line.removeprefix("data: "))["choices"][0]
                            text += choice["delta"].get("content", "")
                            if disconnects and len(text) > 10:
                                break
                    assert ended or disconnects, "the stream ended early"
                if disconnects and status == 200:
                    assert answers[number].startswith(text)
                    counts["disconnected"] += 1
                    continue
            assert status in (200, 429), status
            if status == 200:
                assert text == answers[number]
                counts["answered"] += 1
            else:
                counts["refused"] += 1
                await asyncio.sleep(0.2)

    async def measure_memory(end: float) -> None:
        while time.monotonic() < end:
            gc.collect()
            memory.append(psutil.Process().memory_info().rss / 1e6)
            await asyncio.sleep(SECONDS / 20)

    async def run_clients(url: str) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        async with httpx.AsyncClient(base_url=url, timeout=200, limits=limits) as http:
            end = time.monotonic() + SECONDS
            clients = [client(http, random.Random(n), end) for n in range(CLIENTS)]
            await asyncio.gather(measure_memory(end), *clients)

    with running_server(random_model(), max_concurrency=32, max_queue=24) as server:
        asyncio.run(run_clients(server.url))
        wait_until(lambda: server.worker.load == (0, 0))  # including the texts of disconnected clients
        assert server.model.engine.active == []
    print(counts, [round(m) for m in memory])
    assert counts["answered"] > CLIENTS
    assert counts["refused"] > 0  # there are slots and queue places for 56 of the 64
    assert counts["disconnected"] > 0
    half = len(memory) // 2
    assert max(memory[half:]) < max(memory[:half]) + 15
