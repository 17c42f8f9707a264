"""Connections between brokers."""

from __future__ import annotations

import asyncio

import pytest

from broker.api.answers import Kept, given
from broker.api.forwarding import IDLE_S, Forwarding
from broker.cli.serve import KEEP_ALIVE_S
from broker.cli.worker import AT_REST_S

pytestmark = pytest.mark.anyio


async def test_idle_connection_is_closed_before_the_owner_closes_it() -> None:
    """A publish that met its end would be answered 503: its outcome is unknown."""
    assert IDLE_S < AT_REST_S < KEEP_ALIVE_S
    closed = asyncio.Event()

    async def own(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert await reader.read() == b""
        closed.set()
        writer.close()

    server = await asyncio.start_server(own, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    forwarding = Forwarding(lambda: f"http://127.0.0.1:{port}", 1024)
    scope = {"method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
    answer = Kept()

    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError("nothing comes")

    try:
        await forwarding(scope, given(b"", receive), answer.send, b"1")
        assert answer.status == 204
        await asyncio.wait_for(closed.wait(), 10)
    finally:
        await forwarding.close()
        server.close()
