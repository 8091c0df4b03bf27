"""A small random model, and a server for it in a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from nanochat.model import GPT, GPTConfig
from nanochat.serving.app import new_app
from nanochat.serving.model import Model
from nanochat.serving.server import Server, bind
from nanochat.serving.worker import Worker
from nanochat.tokenizer import Tokenizer


def random_model(
    is_chat: bool = True, context: int = 256, width: int = 32, name: str = "babbler", endless: bool = True
) -> Model:
    """A model with random weights and one token per byte.

    Args:
        is_chat: whether it is a chat model.
        context: its context length.
        width: its width.
        name: its name.
        endless: whether it never generates a special token, so that only a limit or a cancellation ends its texts.
    """
    torch.manual_seed(0)
    gpt = GPT(GPTConfig.from_options(depth=1, vocab_size=265, context=context, width=width, heads=2))
    torch.nn.init.normal_(gpt.lm_head.weight, std=0.3)
    with torch.no_grad():  # only printable ASCII, for readable failures
        gpt.lm_head.weight[:32] = 0
        gpt.lm_head.weight[127:] = 0
        if endless:  # channel 0 is large in every embedding, and lowers the logits of special tokens only
            gpt.wte.weight[:, 0] = 6
            gpt.lm_head.weight[:, 0] = 0
            gpt.lm_head.weight[256:, 0] = -10
    tokenizer = Tokenizer([bytes([i]) for i in range(256)], 265)
    return Model(gpt.eval().requires_grad_(False), tokenizer, Path(f"{name}.ckpt"), is_chat)


class ServerThread:
    """A server in a thread, on a free port."""

    def __init__(
        self, model: Model, max_concurrency: int = 8, max_queue: int = 8, port: int = 0, **options: Any
    ) -> None:
        self.model, self.listener = model, bind("127.0.0.1", port)
        self.port: int = self.listener.getsockname()[1]
        self.worker = Worker(model.engine, max_concurrency, max_queue)
        self.server = Server(new_app(model, self.worker, **options), self.worker)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self._thread.start()
        while not self.server.started and self._thread.is_alive():
            time.sleep(0.01)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.listener.close()


@contextlib.contextmanager
def running_server(model: Model | None = None, **options: Any) -> Iterator[ServerThread]:
    """Serves a model while the context is open."""
    server = ServerThread(model or random_model(), **options)
    try:
        yield server
    finally:
        server.stop()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until a condition holds. The default timeout is long because the machine may be busy."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not hold in time"
        time.sleep(0.01)
