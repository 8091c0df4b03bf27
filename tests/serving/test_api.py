"""The HTTP API, with a plain HTTP client and with OpenAI's client."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import openai
import pytest

from nanochat.inference.sampling import Sampling
from nanochat.serving.model import CHAT_TEMPERATURE
from nanochat.serving.responses import event
from nanochat.serving.worker import Worker
from nanochat.tokenizer import render_prompt
from tests.serving.tools import ServerThread, random_model, running_server, wait_until

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with running_server() as server:
        yield server


@pytest.fixture
def http(server: ServerThread) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        yield client


@pytest.fixture
def client(server: ServerThread) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def expected_answer(messages: list[dict[str, Any]], seed: int, max_tokens: int = 40) -> str:
    """The answer without batching. It takes an engine of its own, since the server's belongs to its thread."""
    model = random_model()
    generation = model.engine.start(
        render_prompt(model.tokenizer, messages), Sampling(CHAT_TEMPERATURE), max_tokens, seed
    )[0]
    model.engine.run([generation])
    return generation.text


def events(text: str) -> list[Any]:
    lines = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_openai_client_chats(server: ServerThread, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="babbler", messages=HELLO, max_tokens=40, seed=3)
    assert answer.choices[0].message.content == expected_answer(HELLO, 3)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 40
    assert answer.usage.prompt_tokens == len(render_prompt(server.model.tokenizer, HELLO))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 40


def test_openai_client_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="babbler",
        messages=HELLO,
        max_completion_tokens=40,
        seed=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == expected_answer(HELLO, 3)
    assert len(chunks) > 5
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 40
    assert len({chunk.id for chunk in chunks}) == 1


def test_openai_client_completes_and_lists_models(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="babbler", prompt="Once", max_tokens=20, seed=1)
    parts = client.completions.create(model="babbler", prompt="Once", max_tokens=20, seed=1, stream=True)
    assert len(whole.choices[0].text) == 20
    assert "".join(chunk.choices[0].text for chunk in parts) == whole.choices[0].text
    assert [model.id for model in client.models.list()] == ["babbler"]
    assert client.models.retrieve("babbler").id == "babbler"
    with pytest.raises(openai.NotFoundError, match="only 'babbler'"):
        client.models.retrieve("gpt-5")
    with pytest.raises(openai.NotFoundError, match="only 'babbler'"):
        client.chat.completions.create(model="gpt-5", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="babbler", messages=HELLO, temperature=-1)


def test_event_is_one_line() -> None:
    body = {"text": "a\nb\r\x0b\x1c\x85\u2028\u2029é\U0001f600"}
    (line, empty) = event(body).decode("latin-1").splitlines()
    assert (json.loads(line.removeprefix("data: ")), empty) == (body, "")


def test_several_prompts_and_choices(http: httpx.Client) -> None:
    body = {"prompt": ["One", "Two"], "n": 2, "max_tokens": 6, "seed": 5}
    choices = http.post("/v1/completions", json=body).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert len({choice["text"] for choice in choices}) == 4
    alone = http.post("/v1/completions", json={**body, "prompt": "Two", "n": 1}).json()["choices"][0]
    assert alone["text"] == choices[2]["text"]
    streamed = events(http.post("/v1/completions", json={**body, "stream": True}).text)
    texts = ["".join(c["text"] for e in streamed for c in e["choices"] if c["index"] == n) for n in range(4)]
    assert texts == [choice["text"] for choice in choices]
    ids = [265 - 9, *b"Two"]
    by_ids = http.post("/v1/completions", json={**body, "prompt": ids, "n": 1}).json()["choices"][0]
    assert by_ids["text"] == alone["text"]


def test_stop_and_sampling_options(http: httpx.Client) -> None:
    whole = http.post("/v1/completions", json={"prompt": "a", "max_tokens": 30, "seed": 1}).json()["choices"][0]["text"]
    stop = whole[12:14]
    body = {"prompt": "a", "max_tokens": 30, "seed": 1, "stop": ["absent", stop]}
    stopped = http.post("/v1/completions", json=body).json()["choices"][0]
    assert stopped["text"] == whole[: whole.index(stop)]
    assert stopped["finish_reason"] == "stop"
    greedy = {"prompt": "a", "max_tokens": 30, "temperature": 0}
    assert len({http.post("/v1/completions", json=greedy).text.split('"text"')[1] for _ in range(3)}) == 1
    for option in ({"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-9}):
        body = {"prompt": "a", "max_tokens": 30, **option}
        texts = [http.post("/v1/completions", json=b).json()["choices"][0]["text"] for b in (body, greedy)]
        assert texts[0] == texts[1], option
    penalized = http.post("/v1/completions", json={**greedy, "repetition_penalty": 9.0}).json()["choices"][0]["text"]
    assert len(set(penalized)) > len(set(texts[0]))


def test_long_conversation_drops_oldest_turns(http: httpx.Client) -> None:
    turns = [{"role": ("user", "assistant")[n % 2], "content": "x" * 60} for n in range(7)]
    body = {"messages": turns, "max_tokens": 5, "seed": 0}
    answer = http.post("/v1/chat/completions", json=body).json()
    assert answer["dropped_messages"] == 4
    kept = http.post("/v1/chat/completions", json={**body, "messages": turns[4:]}).json()
    assert "dropped_messages" not in kept
    assert kept["choices"] == answer["choices"]
    assert events(http.post("/v1/chat/completions", json={**body, "stream": True}).text)[0]["dropped_messages"] == 4
    long = http.post("/v1/chat/completions", json={**body, "messages": [{"role": "user", "content": "x" * 300}]})
    assert long.status_code == 400
    assert long.json()["error"]["code"] == "context_length_exceeded"


def test_calculator_calls_are_parts() -> None:
    model = random_model()
    special = model.tokenizer.special_tokens
    call = [special["<|python_start|>"], *model.tokenizer.encode("6*7"), special["<|python_end|>"]]
    script = [*b"It is ", *call, *b"42.", special["<|assistant_end|>"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "nanochat.inference.engine.choose", lambda logits, samplers, texts: [script[s.noise] for s in samplers]
        )
        patch.setattr("nanochat.inference.engine.Sampler", Script)
        with running_server(model) as server, httpx.Client(base_url=server.url) as http:
            message = http.post("/v1/chat/completions", json={"messages": HELLO}).json()["choices"][0]["message"]
            streamed = events(http.post("/v1/chat/completions", json={"messages": HELLO, "stream": True}).text)
            follow_up = [*HELLO, {"role": "assistant", "content": message["parts"]}, *HELLO]
            assert http.post("/v1/chat/completions", json={"messages": follow_up}).status_code == 200
    parts = [("text", "It is "), ("python", "6*7"), ("python_output", "42"), ("text", "42.")]
    assert message["content"] == "It is 42."
    assert [(part["type"], part["text"]) for part in message["parts"]] == parts
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed]
    assert "".join(delta.get("content", "") for delta in deltas) == "It is 42."
    streamed_parts = [delta["part"] for delta in deltas if "part" in delta]
    assert "".join(part["text"] for part in streamed_parts if part["type"] == "python") == "6*7"
    assert "".join(part["text"] for part in streamed_parts if part["type"] == "python_output") == "42"


class Script:
    """A sampler whose noise is the number of earlier draws."""

    def __init__(self, settings: Sampling, seed: int = 0) -> None:
        self.settings, self._asked = settings, -1

    @property
    def noise(self) -> int:
        self._asked += 1
        return self._asked


def test_base_model_completes_but_does_not_chat() -> None:
    with running_server(random_model(is_chat=False)) as server, httpx.Client(base_url=server.url) as http:
        refused = http.post("/v1/chat/completions", json={"messages": HELLO})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "not_a_chat_model")
        assert http.post("/v1/completions", json={"prompt": "a", "max_tokens": 3}).status_code == 200
        assert http.get("/v1/models").json()["data"][0]["chat"] is False


def slow_down(server: ServerThread, seconds: float) -> None:
    """Adds a delay to each step, so that a text takes minutes unless it is cancelled."""
    step = server.model.engine.step

    def slow_step() -> Any:
        time.sleep(seconds)
        return step()

    server.model.engine.step = slow_step  # type: ignore[method-assign]


def test_batching_and_full_queue() -> None:
    with (
        running_server(random_model(context=4096), max_concurrency=2, max_queue=1) as server,
        httpx.Client(base_url=server.url) as http,
    ):
        slow_down(server, 0.1)
        body = {"messages": HELLO, "max_tokens": 3000, "stream": True}
        with http.stream("POST", "/v1/chat/completions", json={**body, "n": 2}) as both:
            chunks = both.iter_bytes()  # a reference: garbage collection would close the connection
            next(chunks)
            wait_until(lambda: http.get("/health").json()["working"] == 2)
            with http.stream("POST", "/v1/chat/completions", json=body) as third:
                assert third.status_code == 200
                assert http.get("/health").json() == {"status": "ok", "working": 2, "waiting": 1}
                fourth = http.post("/v1/chat/completions", json=body)
                assert fourth.status_code == 429
                assert fourth.json()["error"]["code"] == "queue_full"
                assert fourth.headers["retry-after"] == "1"
        # both clients disconnected: their slots are free, minutes before their texts would have ended
        wait_until(lambda: http.get("/health").json() == {"status": "ok", "working": 0, "waiting": 0})
        assert len(server.model.engine.active) == 0
        assert http.post("/v1/chat/completions", json={**body, "max_tokens": 2}).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_disconnect_cancels(stream: bool) -> None:
    with running_server(random_model(context=4096), max_concurrency=1) as server:
        slow_down(server, 0.1)
        body = json.dumps({"messages": HELLO, "max_tokens": 3000, "stream": stream}).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            client.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            wait_until(lambda: server.worker.load[0] == 1)
        wait_until(lambda: server.worker.load[0] == 0)  # minutes before the text would have ended
        assert server.model.engine.active == []


def test_slow_reader_does_not_block_others() -> None:
    model = random_model(context=8192, width=16)
    with running_server(model, max_concurrency=2) as server, httpx.Client(base_url=server.url) as http:
        body = json.dumps({"prompt": "a", "n": 1, "max_tokens": 8000, "stream": True}).encode()
        with socket.socket() as slow_reader:
            slow_reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            slow_reader.connect(("127.0.0.1", server.port))
            head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            slow_reader.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            wait_until(lambda: server.worker.load[0] == 1)
            for _ in range(5):
                assert http.post("/v1/completions", json={"prompt": "b", "max_tokens": 20}).status_code == 200
            wait_until(lambda: server.worker.load[0] == 0, 200)  # the slow reader's text is generated to its end


def test_engine_failure_reveals_nothing_and_server_recovers() -> None:
    with running_server() as server, httpx.Client(base_url=server.url) as http:
        decoder = server.model.engine.decoder
        read, decoder.read = decoder.read, lambda *_: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        failed = http.post("/v1/chat/completions", json={"messages": HELLO})
        streamed = http.post("/v1/chat/completions", json={"messages": HELLO, "stream": True}).text
        assert (failed.status_code, failed.json()["error"]["message"]) == (503, "the engine failed")
        assert '"the engine failed"' in streamed
        assert "[DONE]" not in streamed
        assert "division" not in failed.text + streamed
        decoder.read = read  # type: ignore[method-assign]
        assert http.post("/v1/chat/completions", json={"messages": HELLO}).status_code == 200


@pytest.mark.parametrize("temperature", [1e-7, 1e-39, 5e-324])
def test_tiny_temperature_equals_zero(temperature: float, http: httpx.Client) -> None:
    """A logit divided by one of these overflows float32, which once failed the whole batch."""
    answers = [http.post("/v1/completions", json={"prompt": "a", "temperature": t}).json() for t in (0, temperature)]
    assert answers[0]["choices"] == answers[1]["choices"]


def test_shutdown_ends_running_texts_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanochat.serving.server.SHUTDOWN_TIMEOUT", 60)  # a busy machine may need more than 2 s
    with running_server(random_model(context=4096)) as server, httpx.Client(base_url=server.url) as http:
        slow_down(server, 0.1)
        body = {"prompt": "a", "max_tokens": 3000, "stream": True}
        with http.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.server.should_exit = True
            start = time.monotonic()
            rest = "".join(lines)
        assert "the server is stopping" in rest
        assert time.monotonic() - start < 60  # the text would have taken five minutes


def test_worker_is_not_alive_after_stop() -> None:
    worker = Worker(random_model().engine)
    assert worker.alive
    worker.stop()
    assert not worker.alive
