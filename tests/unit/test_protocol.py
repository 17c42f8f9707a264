"""A connection whose client takes nothing, and one too many: on real sockets, with a short time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from broker.cli import protocol
from support.eventually import eventually
from unit.fake_worker import Send, listening, worker_with

pytestmark = pytest.mark.anyio
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
PART = b"x" * 65536


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run on the loop that the broker runs on."""
    return "asyncio", {"use_uvloop": True}


@contextlib.asynccontextmanager
async def serving(most: int) -> AsyncIterator[tuple[Any, int]]:
    """Serve an application that sends without end; gives the worker and the port."""

    async def send_on(scope: Any, receive: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while worker.nr_conns:
            await send({"type": "http.response.body", "body": PART, "more_body": True})

    worker = worker_with(send_on, most)
    async with listening(worker) as port:
        yield worker, port


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, condition)


async def read_to_the_end(connection: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(connection, 1 << 20):
        pass


async def asked(port: int) -> socket.socket:
    """Open a connection and send a request; nothing is read."""
    connection = socket.socket()
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", port))
    await loop.sock_sendall(connection, REQUEST)
    return connection


async def test_client_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALL_S", 0.2)
    async with serving(10) as (worker, port):
        with contextlib.closing(await asked(port)) as connection:
            await until(lambda: worker.nr_conns == 1)
            await until(lambda: worker.nr_conns == 0)
            async with asyncio.timeout(15):
                await read_to_the_end(connection)


async def test_client_that_takes_a_little_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALL_S", 1.0)  # longer than a busy machine lets a loop wait
    async with serving(10) as (worker, port):
        with contextlib.closing(await asked(port)) as connection:
            loop = asyncio.get_running_loop()
            until_at = loop.time() + 3 * protocol.STALL_S
            while loop.time() < until_at:  # longer than any that takes nothing is let be
                assert await loop.sock_recv(connection, 1 << 22)
                await asyncio.sleep(0.01)
            assert worker.nr_conns == 1
        await until(lambda: worker.nr_conns == 0)


async def test_connection_beyond_the_limit_is_told_so_and_closed() -> None:
    async with serving(2) as (worker, port):
        first, second = await asked(port), await asked(port)
        await until(lambda: worker.nr_conns == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()

        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5\r\n" in answer
        assert b'"code":"too_many_connections"' in answer
        assert worker.nr_conns == 2
        first.close()
        await until(lambda: worker.nr_conns == 1)
        with contextlib.closing(await asked(port)):
            await until(lambda: worker.nr_conns == 2)
        second.close()
        await until(lambda: worker.nr_conns == 0)


async def test_connection_beyond_the_limit_that_says_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "REFUSING_S", 0.1)
    async with serving(0) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def answered(scope: Any, receive: Any, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def test_request_that_came_while_the_loop_was_held_up_is_answered() -> None:
    """It came in time, but the connection's time is over before the loop has looked."""
    async with serving(10) as (worker, port):
        worker.asgi = answered
        worker.cfg.set("keepalive", 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            for _ in range(2):
                writer.write(REQUEST)
                time.sleep(1.2)  # noqa: ASYNC251 nothing else shall run
                async with asyncio.timeout(10):
                    assert b" 204 " in await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(0.1)
            async with asyncio.timeout(10):
                assert await reader.read() == b""


async def test_refused_client_that_stays_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER_S", 0.2)
    async with serving(10) as (worker, port):
        worker.asgi = answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.startswith(b"HTTP/1.1 204 ")
            assert b"connection: close\r\n" in answer.lower()
            await until(lambda: worker.nr_conns == 0)


async def test_client_beyond_the_limit_may_send_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REFUSING_S", 30.0)
    async with serving(0) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 503 ")
            for _ in range(100):
                writer.write(PART)
                await writer.drain()


@pytest.mark.parametrize("closes", ["server", "client"])
async def test_connection_that_has_ended_is_freed_without_a_search_for_cycles(
    monkeypatch: pytest.MonkeyPatch, closes: str
) -> None:
    """What is left of it would be as large as what it had sent last, up to 64 KiB."""
    kept: list[weakref.ref[Any]] = []
    made = protocol.Parser.__init__

    def remembered(self: Any, *arguments: Any, **more: Any) -> None:
        made(self, *arguments, **more)
        kept.append(weakref.ref(self))

    async def answer(scope: Any, receive: Any, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    monkeypatch.setattr(protocol.Parser, "__init__", remembered)
    said = b"connection: close\r\n" if closes == "server" else b""
    head = b"POST / HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n"
    async with serving(10) as (worker, port):
        worker.asgi = answer
        worker.cfg.set("asgi_disconnect_grace_period", 0)
        gc.disable()
        try:
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(head % (said, 3 * len(PART)) + 3 * PART)
                assert b" 204 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
                writer.close()
            await until(lambda: worker.nr_conns == 0)
            await until(lambda: len(kept) == 3 and not any(each() for each in kept))
        finally:
            gc.enable()
