"""``serve``: a model for the browser, and for programs that speak OpenAI's API."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from nanochat.cli.errors import UsageError, report_errors
from nanochat.cli.main import program_name
from nanochat.cli.parser import call
from nanochat.options import at_least

KEY = "NANOCHAT_API_KEY"
OWN = ("127.0.0.1", "localhost", "::1")  # where only this machine reaches the server
HOST, ORIGIN = r"[\w.-]+", r"https?://[^\s/]+"


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
    """Serves a model until Ctrl-C: the page to talk to it, and the API.

    Args:
        ckpt_path: The model: a file, a run's folder, or last or best of the newest run. null takes the newest chat
            model, or the newest base model if none was fine-tuned.
        name: Of the runs to take the newest from; "tiny" finds what was fine-tuned from it, tiny-chat, first.
        host: Who can reach it: 127.0.0.1 is this machine alone, 0.0.0.0 the network.
        port: The port; 0 takes a free one.
        api_key: A key that requests must bring. The variable NANOCHAT_API_KEY says it without showing it to other users
            of the machine.
        at_once: How many texts are written at a time; null takes 32, or fewer where memory is short.
        waiting: How many more may wait; beyond that requests are refused (429).
        per_minute: How many requests one address may make in a minute, a quarter of them at once; 0 for any number.
        allow_hosts: Names that the server is reached by besides this machine's, with commas in between.
        allow_origins: Pages from elsewhere that may use it, such as http://localhost:3000, with commas in between.
        root: The folder that lightning_logs is in.
        device: Where the model runs: cpu, cuda or mps. A small one is quickest on the CPU.
    """
    at_least(1, at_once=at_once)
    at_least(0, waiting=waiting, per_minute=per_minute)
    hosts = _split(allow_hosts, HOST, "--allow_hosts takes names without a port, such as box.lan")
    origins = _split(allow_origins, ORIGIN, "--allow_origins takes addresses such as http://localhost:3000")
    key = api_key if api_key is not None else os.environ.get(KEY) or None
    if key is not None and (not key or not key.isascii() or not key.isprintable() or key != key.strip()):
        raise UsageError("the API key must be letters, digits and signs of ASCII")

    from nanochat.serving.server import Server, address_of, bind

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
        if host not in OWN and key is None:
            print("Everybody on the network can use it: --api_key=... asks for a key.", file=sys.stderr)
        print(f"Serving at {address_of(listener, host)}  (Ctrl-C stops)", flush=True)
        server = Server(app, worker)
        try:
            server.run(sockets=[listener])
        finally:
            worker.stop()
        if server.interrupted:
            raise KeyboardInterrupt


def _split(text: str, form: str, wanted: str) -> list[str]:
    """The parts between commas, as browsers write them: in small letters, with no slash at the end."""
    parts = [part.strip().rstrip("/").lower() for part in text.split(",") if part.strip()]
    for part in parts:
        if not re.fullmatch(form, part):
            raise UsageError(f"{wanted}, not {part}")
    return parts


def run(arguments: Sequence[str]) -> int:
    """Runs ``serve``; returns the exit status."""
    return report_errors(lambda: call(serve, arguments))
