"""Runs the app with uvicorn: takes the port first, waits for nobody, and stops while answers are being written."""

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

from nanochat.serving.requests import PATIENCE
from nanochat.serving.worker import Worker

STALLED = 120.0  # seconds after which a client that takes nothing of what is sent to it is left
GRACE = 2  # seconds that open connections have to end when the server stops


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; before the model is loaded, so that nobody waits for an error.

    Args:
        host: an address of this machine, or a name of one.
        port: 0 takes a free one.

    Raises:
        ValueError: if it cannot be had, in one line.
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
        if os.name == "posix":  # else a port would stay taken for a while after its server has ended
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"port {port} is in use by another program: --port={port + 1} takes another") from error
        if error.errno == errno.EACCES:
            raise ValueError(f"port {port} is not yours to take: --port=8000 is") from error
        raise ValueError(f"{host} is no address of this machine: --host=127.0.0.1 is ({error.strerror})") from error
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """Where a browser finds it."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{listener.getsockname()[1]}"


class Connection(H11Protocol):
    """uvicorn's, which would let those who never finish a request keep as many connections as a process may have.

    And those who never read an answer.
    """

    _late: asyncio.TimerHandle  # closes it, unless a request is being answered
    _stalled: asyncio.TimerHandle | None = None  # breaks it off, unless what waits to be sent becomes less

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # writing is paused as soon as anything waits
        self._late = self.loop.call_later(PATIENCE, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._late.cancel()
        elif self._late.cancelled():
            self._late = self.loop.call_later(PATIENCE, self.transport.close)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()


class Server(uvicorn.Server):
    """uvicorn, which would wait for the texts in work: here they end first, and their readers hear why."""

    def __init__(self, app: FastAPI, worker: Worker) -> None:
        # one worker, since there is one engine; the app logs nothing by request, and says nothing of itself
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",  # not what a stranger sends that is no HTTP
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._worker = worker
        self.interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted |= sig == signal.SIGINT  # also where whoever started this program has it ignore Ctrl-C
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._worker.stop()
        await super().shutdown(sockets)
