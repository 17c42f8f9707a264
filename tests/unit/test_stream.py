"""A stream in which nothing comes, or whose reader does not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.api.stream import stream
from broker.config import Settings
from broker.service import Broker
from broker.store.port import Store
from broker.streams import Streams, TooManyStreams
from contract.homes import SqliteHome
from contract.messages import TOPIC, new_message, publish

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    home = SqliteHome(tmp_path)
    yield await home.open()
    await home.close()


class Client:
    """One that watches from the beginning; while not `reading` it takes nothing more."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.reading.set()
        self.left = asyncio.Event()
        self.parts: list[bytes] = []
        self.got = asyncio.Condition()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: MutableMapping[str, Any]) -> None:
        async with self.got:
            self.parts.append(event.get("body", b""))
            self.got.notify_all()
        await self.reading.wait()

    async def wait_for(self, text: bytes, count: int) -> None:
        async with self.got:
            enough = self.got.wait_for(lambda: b"".join(self.parts).count(text) >= count)
            await asyncio.wait_for(enough, 10)


SCOPE = {"headers": [], "query_string": b"after=0"}


@asynccontextmanager
async def watching(store: Store, broker: Broker | None = None) -> AsyncIterator[Client]:
    """Have a client watch the topic."""
    broker = Broker(store, Settings(min_free_bytes=0)) if broker is None else broker
    await broker.put_topic(TOPIC, {})
    client = Client()
    serving = asyncio.ensure_future(
        stream(
            *(broker, TOPIC, SCOPE, client.receive, client.send, b"id", asyncio.Event()),
            admit=lambda: None,
        )
    )
    try:
        yield client
    finally:
        client.left.set()
        await asyncio.wait_for(serving, 10)


async def test_comment_comes_again_and_again_while_nothing_else_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.api.stream.KEEP_ALIVE_S", 0.01)
    async with watching(store) as client:
        await client.wait_for(b": nothing new\n\n", 3)
        await publish(store, new_message())
        await client.wait_for(b"id: 1\n", 1)
        await client.wait_for(b": nothing new\n\n", 6)


async def test_reader_that_does_not_read_is_sent_nothing_more(store: Store) -> None:
    large = b'"' + b"x" * 100_000 + b'"'
    async with watching(store) as client:
        await client.wait_for(b": the stream begins", 1)
        client.reading.clear()
        await publish(store, *[new_message(data=large) for _ in range(50)])
        await client.wait_for(b"id: 1\n", 1)

        for _ in range(20):
            await publish(store, new_message())
        assert sum(map(len, client.parts)) < 500_000

        client.reading.set()
        await client.wait_for(b"id: ", 70)


async def test_no_more_streams_than_there_may_be(store: Store) -> None:
    broker = Broker(store, Settings(min_free_bytes=0))
    broker.streams = Streams(2)
    async with watching(store, broker), watching(store, broker) as second:
        await second.wait_for(b": the stream begins", 1)
        assert broker.streams.open == 2
        one_more = Client()
        with pytest.raises(TooManyStreams, match="2 streams are open"):
            await stream(
                *(broker, TOPIC, SCOPE, one_more.receive, one_more.send, b"id", asyncio.Event()),
                admit=lambda: None,
            )
        assert one_more.parts == []
    assert broker.streams.open == 0
    async with watching(store, broker) as again:
        await again.wait_for(b": the stream begins", 1)
