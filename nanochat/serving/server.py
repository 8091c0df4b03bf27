"""Runs the app with uvicorn: binds the port first, closes stalled connections, and stops during running requests."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from nanochat.serving.requests import READ_TIMEOUT
from nanochat.serving.worker import Worker

WRITE_TIMEOUT = 120.0  # seconds after which a client that reads nothing of its response is disconnected
SHUTDOWN_TIMEOUT = 2  # seconds for open connections to end when the server stops


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. It is bound before the model is loaded, so that an error appears at once.

    Args:
        host: an address or host name of this machine.
        port: the port; 0 takes a free one.

    Raises:
        ValueError: if the address cannot be bound, in one line.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"--port must be from 0 to {2**16 - 1}, not {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ValueError(f"there is no address {host}: --host takes 127.0.0.1, or 0.0.0.0 for the network") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # else the port would be unavailable for a while after the server has ended
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"port {port} is in use by another program: try --port={port + 1}") from error
        if error.errno == errno.EACCES:
            raise ValueError(f"no permission to use port {port}: try --port=8000") from error
        raise ValueError(f"{host} is no address of this machine: try --host=127.0.0.1 ({error.strerror})") from error
    return listener


def url_of(listener: socket.socket, host: str) -> str:
    """The URL for a browser on this machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{listener.getsockname()[1]}"


class Connection(H11Protocol):
    """uvicorn's HTTP protocol with timeouts for clients that never finish a request or never read a response.

    Without them such clients could hold as many connections as a process may have.
    """

    _read_timer: asyncio.TimerHandle  # closes the connection unless a request is being answered
    _write_timer: asyncio.TimerHandle | None = None  # aborts the connection unless the write buffer empties

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # pause_writing is called as soon as the buffer is not empty
        self._read_timer = self.loop.call_later(READ_TIMEOUT, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._read_timer.cancel()
        elif self._read_timer.cancelled():
            self._read_timer = self.loop.call_later(READ_TIMEOUT, self.transport.close)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()


class Server(uvicorn.Server):
    """uvicorn's server, but shutdown ends the running texts, with an error to their clients, instead of awaiting them.

    Args:
        app: the ASGI app.
        worker: stopped when the server shuts down.
    """

    def __init__(self, app: FastAPI, worker: Worker) -> None:
        # one process, since there is one engine; no access log, and no Server header
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",  # no warnings about invalid HTTP
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
            )
        )
        self._worker = worker
        self.interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted |= sig == signal.SIGINT  # also if the parent process has set SIGINT to be ignored
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._worker.stop()
        await super().shutdown(sockets)
