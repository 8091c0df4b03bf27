"""The ``serve`` command: a web page and an OpenAI-compatible API for a model."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from nanochat.cli.errors import UsageError, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import call
from nanochat.options import at_least

API_KEY_VARIABLE = "NANOCHAT_API_KEY"
LOOPBACK = ("127.0.0.1", "localhost", "::1")  # reachable from this machine only
HOST_PATTERN, ORIGIN_PATTERN = r"[\w.-]+", r"https?://[^\s/]+"


def serve(
    ckpt_path: str | None = None,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    at_once: int | None = None,
    waiting: int = 64,
    per_minute: int = 1200,
    allow_hosts: str = "",
    allow_origins: str = "",
    root: str = ".",
    device: str = "cpu",
) -> None:
    """Serves a model until Ctrl-C: a web page to chat with it, and an OpenAI-compatible API.

    Args:
        ckpt_path: The model: a checkpoint file, a run's folder, or last or best of the newest run. null takes the
            newest chat model, or the newest base model if there is no chat model.
        name: The name of a run, of which the newest is taken; "tiny" prefers tiny-chat, the fine-tuned model.
        host: The address to listen on: 127.0.0.1 for this machine only, 0.0.0.0 for the network.
        port: The port; 0 takes a free one.
        api_key: The key that API requests must send. The environment variable NANOCHAT_API_KEY also sets it, hidden
            from other users of the machine.
        at_once: The number of texts that are generated at the same time; null for 32, or fewer if memory is short.
        waiting: The number of texts that may wait in the queue; further requests get status 429.
        per_minute: The limit of completion requests per minute and client address, with bursts of a quarter of it; 0
            for no limit.
        allow_hosts: Further host names at which the server may be addressed, separated by commas.
        allow_origins: Origins of other web pages that may use the API, such as http://localhost:3000, separated by
            commas.
        root: The folder that contains lightning_logs.
        device: cpu, cuda or mps. A small model is fastest on the CPU.
    """
    at_least(1, at_once=at_once)
    at_least(0, waiting=waiting, per_minute=per_minute)
    hosts = _split(allow_hosts, HOST_PATTERN, "--allow_hosts takes names without a port, such as box.lan")
    origins = _split(allow_origins, ORIGIN_PATTERN, "--allow_origins takes origins such as http://localhost:3000")
    key = api_key if api_key is not None else os.environ.get(API_KEY_VARIABLE) or None
    if key is not None and (not key or not key.isascii() or not key.isprintable() or key != key.strip()):
        raise UsageError("the API key may only contain printable ASCII characters, without spaces at its ends")

    from nanochat.serving.server import Server, bind, url_of

    listener = bind(host, port)
    with listener:
        from nanochat.serving.app import new_app
        from nanochat.serving.find_model import base_model_notice, resolve_checkpoint
        from nanochat.serving.max_concurrency import max_concurrency
        from nanochat.serving.model import load
        from nanochat.serving.worker import Worker

        model = load(resolve_checkpoint(ckpt_path, name, root, program_name()), device=device)
        worker = Worker(model.engine, at_once or max_concurrency(model.gpt), waiting)
        app = new_app(model, worker, key, hosts, origins, per_minute)
        print(f"{model.name}: {model.gpt.num_parameters:,} parameters, context {model.context:,} ({model.path})")
        if not model.is_chat:
            print(base_model_notice(model.name, model.path, program_name()))
        if host not in LOOPBACK and key is None:
            print("Anyone on the network can use this server: set a key with --api_key.", file=sys.stderr)
        print(f"Serving at {url_of(listener, host)}  (stop with Ctrl-C)", flush=True)
        server = Server(app, worker)
        try:
            server.run(sockets=[listener])
        finally:
            worker.stop()
        if server.interrupted:
            raise KeyboardInterrupt


def _split(text: str, pattern: str, expected: str) -> list[str]:
    """Splits at commas, and normalises each part as browsers do: lower case, no slash at the end.

    Raises:
        UsageError: if a part does not match the pattern; ``expected`` begins the message.
    """
    parts = [part.strip().rstrip("/").lower() for part in text.split(",") if part.strip()]
    for part in parts:
        if not re.fullmatch(pattern, part):
            raise UsageError(f"{expected}, not {part}")
    return parts


def run(arguments: Sequence[str]) -> int:
    """Runs ``serve``; returns the exit status."""
    return report_errors(lambda: call(serve, arguments))
