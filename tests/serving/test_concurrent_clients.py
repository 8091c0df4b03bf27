"""Many at once, for a minute."""

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
from tests.serving.tools import random_model, running, until

CLIENTS, QUESTIONS, TOKENS = 64, 40, 60
SECONDS = float(os.environ.get("LOAD_SECONDS", "60"))


def question(number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Question {number}: {'why? ' * (number % 9)}"}]
    return {"messages": messages, "seed": number, "max_tokens": TOKENS, "temperature": 1.0}


def right_answers() -> list[str]:
    """What the engine writes to each question with nobody else there."""
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
def test_64_clients_for_a_minute_each_get_their_own_answers_and_memory_stays_the_same() -> None:
    answers = right_answers()
    counts = {"answered": 0, "refused": 0, "left": 0}
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
                text, leaves = "", kind > 0.9
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
                            if leaves and len(text) > 10:
                                break
                    assert ended or leaves, "an answer was lost"
                if leaves and status == 200:
                    assert answers[number].startswith(text)
                    counts["left"] += 1
                    continue
            assert status in (200, 429), status
            if status == 200:
                assert text == answers[number]
                counts["answered"] += 1
            else:
                counts["refused"] += 1
                await asyncio.sleep(0.2)

    async def watch(end: float) -> None:
        while time.monotonic() < end:
            gc.collect()
            memory.append(psutil.Process().memory_info().rss / 1e6)
            await asyncio.sleep(SECONDS / 20)

    async def all_of_them(url: str) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        async with httpx.AsyncClient(base_url=url, timeout=200, limits=limits) as http:
            end = time.monotonic() + SECONDS
            clients = [client(http, random.Random(n), end) for n in range(CLIENTS)]
            await asyncio.gather(watch(end), *clients)

    with running(random_model(), at_once=32, waiting=24) as server:
        asyncio.run(all_of_them(server.url))
        until(lambda: server.worker.load == (0, 0))  # also those whose readers have left
        assert server.model.engine.active == []
    print(counts, [round(m) for m in memory])
    assert counts["answered"] > CLIENTS
    assert counts["refused"] > 0  # 64 ask, and 56 find a place
    assert counts["left"] > 0
    half = len(memory) // 2
    assert max(memory[half:]) < max(memory[:half]) + 15
