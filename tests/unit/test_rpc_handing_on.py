"""Calls that one port hands on to another: how many, and for how slow a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from broker.api.under_way import UnderWay, most_bytes
from broker.auth import Keys
from broker.config import Settings
from broker.rpc import lines, patience, port
from broker.rpc.handing_on import HandingOn
from broker.rpc.port import RpcPort
from broker.rpc.server import RpcServer
from broker.service import Broker
from broker.serving import Serving
from broker_client.generated import broker_pb2 as pb
from broker_client.generated.broker_pb2_grpc import BrokerStub
from broker_client.generated.cloudevents_pb2 import CloudEvent
from contract.homes import SqliteHome
from contract.messages import new_message
from support.broker_process import free_port

pytestmark = pytest.mark.anyio
LARGE = b'"' + b"x" * 500_000 + b'"'
MANY = 40  # more than gRPC takes for a client that does not


class Standing:
    """A port that hands on to a broker, and clients of it."""

    def __init__(self, broker: Broker, under_way: UnderWay, opened: AsyncExitStack) -> None:
        self.broker = broker
        self.under_way = under_way
        self.asked: list[str | None] = []  # for the owners of which topics
        self._opened = opened
        self.settings = Settings(host="127.0.0.1", grpc_port=free_port())

    async def open(self, owner: str) -> None:
        """Begin to hand on."""

        def owner_of(topic: str | None) -> str:
            self.asked.append(topic)
            return owner

        self.handing_on = HandingOn(owner_of, self.under_way)
        standby = RpcPort(self.settings, self.handing_on)
        await standby.listen()
        self._opened.push_async_callback(standby.stop)

    async def client(self) -> BrokerStub:
        """Connect once more: a client in the same process would share the connection."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        address = f"127.0.0.1:{self.settings.grpc_port}"
        channel = grpc.aio.insecure_channel(address, options=options)
        return BrokerStub(await self._opened.enter_async_context(channel))


Stand = Callable[[], Any]


@pytest.fixture
async def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stand]:
    """Stand by for a broker that takes one call of each connection."""
    home = SqliteHome(tmp_path)
    store = await home.open()

    @asynccontextmanager
    async def standing() -> AsyncIterator[Standing]:
        settings = Settings(host="127.0.0.1", grpc_port=free_port(), min_free_bytes=0)
        broker = Broker(store, settings)
        await broker.put_topic("t", {})
        async with AsyncExitStack() as opened:
            under_way = UnderWay(most_bytes(settings.max_batch_bytes))
            with monkeypatch.context() as patch:
                patch.setattr(port, "MOST_CALLS_OF_A_CONNECTION", 1)
                serving = Serving(broker=broker)
                owner = RpcServer(lambda _: serving, Keys(None, on=False), settings, under_way)
            await owner.start()
            opened.push_async_callback(owner.stop)
            standing = Standing(broker, UnderWay(1024), opened)
            await standing.open(f"127.0.0.1:{settings.grpc_port}")
            yield standing

    yield standing
    await home.close()


async def all_have_ended(standing: Standing) -> None:
    """Wait until no stream is open on the way, nor at the owner."""
    while standing.handing_on.calls() or standing.broker.streams.open:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def watch(client: BrokerStub) -> Any:
    return client.Watch(pb.WatchRequest(topic="t", after=0))


async def test_calls_are_handed_on_by_as_many_connections_as_they_need(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_CALLS_OF_A_CONNECTION", 1)
    async with stand() as standing:
        await standing.broker.publish("t", [new_message()])
        client = await standing.client()
        streams = [watch(client) for _ in range(3)]

        assert [(await stream.read()).sequence for stream in streams] == [1, 1, 1]
        assert standing.broker.streams.open == 3
        for stream in streams:
            stream.cancel()
        await all_have_ended(standing)


async def test_owner_is_asked_for_by_the_topic_of_the_first_request(stand: Stand) -> None:
    async with stand() as standing:
        client = await standing.client()
        requests = [
            pb.PublishRequest(topic=name, events=[CloudEvent(text_data="1")]) for name in ("t", "u")
        ]
        answers = [answer async for answer in client.PublishStream(iter(requests))]
        assert len((await client.ListTopics(Empty())).topics) == 2

        assert [answer.published.messages[0].sequence for answer in answers] == [1, 1]
        assert set(standing.asked) == {"t", None}


async def test_what_is_handed_on_counts_as_long_as_it_is_in_memory(stand: Stand) -> None:
    async with stand() as standing:
        client = await standing.client()
        request = pb.PublishRequest(topic="t", events=[CloudEvent(text_data="x" * 2048)])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.Publish(request)

        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert standing.under_way.bytes == 0


async def test_client_that_takes_nothing_of_what_is_handed_back_loses_its_stream(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stand() as standing:
        await standing.broker.publish("t", [new_message(data=LARGE) for _ in range(MANY)])
        monkeypatch.setattr(patience, "STALL_S", 0.2)
        slow = watch(await standing.client())
        assert (await slow.read()).sequence == 1
        await all_have_ended(standing)

        taken: list[int] = []
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await read_to_the_end(slow, taken)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "nothing of it was taken" in (ended.value.details() or "")
        assert len(taken) < MANY - 1


async def read_to_the_end(stream: Any, taken: list[int]) -> None:
    while (message := await stream.read()) is not grpc.aio.EOF:
        taken.append(message.sequence)
