"""Connections of the broker's protocol on real sockets, without gunicorn's worker around them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from types import SimpleNamespace
from typing import Any, TypeAlias

from gunicorn.config import Config

from broker.cli import protocol
from broker.cli.gunicorn_logging import Quiet

Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
App: TypeAlias = Callable[[Event, Receive, Send], Awaitable[None]]


def worker_with(app: App, most: int = 10) -> Any:
    """Make what the protocol knows of a worker, with room for so many connections."""
    config = Config()
    for name, value in {"http_parser": "fast", "worker_connections": most, "keepalive": 75}.items():
        config.set(name, value)
    return SimpleNamespace(
        cfg=config,
        log=Quiet(config),
        loop=asyncio.get_running_loop(),
        asgi=app,
        nr_conns=0,
        nr=0,
        max_requests=sys.maxsize,
        worker_connections=most,
        alive=True,
        state={},
        connections=set(),
    )


@contextlib.asynccontextmanager
async def listening(worker: Any) -> AsyncIterator[int]:
    """Take connections for a worker; gives the port."""
    protocol.install()
    server = await worker.loop.create_server(lambda: protocol.protocol_for(worker), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
