"""How many gRPC calls and streams there may be, and clients that take nothing of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from broker.api.under_way import UnderWay, most_bytes
from broker.auth import Keys
from broker.config import Settings
from broker.rpc import patience, port
from broker.rpc.server import RpcServer
from broker.service import Broker
from broker.serving import Serving as AnyDoor
from broker.streams import Streams
from broker_client.generated import broker_pb2 as pb
from broker_client.generated.broker_pb2_grpc import BrokerStub
from contract.homes import SqliteHome
from contract.messages import new_message
from support.broker_process import free_port

pytestmark = pytest.mark.anyio
LARGE = b'"' + b"x" * 500_000 + b'"'
MANY = 40  # more than gRPC takes for a client that does not


class Serving:
    """A broker behind gRPC, and clients of it."""

    def __init__(self, broker: Broker, port: int, opened: AsyncExitStack) -> None:
        self.broker = broker
        self._target = f"127.0.0.1:{port}"
        self._opened = opened

    async def client(self) -> BrokerStub:
        """Connect once more: a client in the same process would share the connection."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        channel = grpc.aio.insecure_channel(self._target, options=options)
        return BrokerStub(await self._opened.enter_async_context(channel))


Serve = Callable[[], Any]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Begin to serve, with the limits as they are then."""
    home = SqliteHome(tmp_path)
    store = await home.open()

    @asynccontextmanager
    async def serving() -> AsyncIterator[Serving]:
        settings = Settings(host="127.0.0.1", grpc_port=free_port(), min_free_bytes=0)
        broker = Broker(store, settings)
        await broker.put_topic("t", {})
        of_any_topic = AnyDoor(broker=broker)
        under_way = UnderWay(most_bytes(settings.max_batch_bytes))
        rpc = RpcServer(lambda _: of_any_topic, Keys(None, on=False), settings, under_way)
        await rpc.start()
        try:
            async with AsyncExitStack() as opened:
                yield Serving(broker, settings.grpc_port, opened)
        finally:
            await rpc.stop()

    yield serving
    await home.close()


def watch(client: BrokerStub) -> Any:
    return client.Watch(pb.WatchRequest(topic="t", after=0))


async def read_to_the_end(stream: Any, taken: list[int]) -> None:
    while (message := await stream.read()) is not grpc.aio.EOF:
        taken.append(message.sequence)


async def test_no_more_streams_than_there_may_be(serve: Serve) -> None:
    async with serve() as serving:
        serving.broker.streams = Streams(1)
        client = await serving.client()
        await serving.broker.publish("t", [new_message()])
        first = watch(client)
        assert (await first.read()).sequence == 1

        for one_more in (
            watch(client),
            client.StreamingPull(iter([pb.StreamingPullRequest(topic="t", subscription="s")])),
            client.PublishStream(iter([pb.PublishRequest(topic="t")])),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await one_more.read()
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "1 streams are open" in (refused.value.details() or "")
        assert serving.broker.streams.open == 1


async def test_no_more_calls_than_there_may_be(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port, "MOST_CALLS", 2)
    async with serve() as serving:
        await serving.broker.publish("t", [new_message()])
        client = await serving.client()
        streams = [watch(client), watch(client)]
        for stream in streams:
            await stream.read()

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.GetTopic(pb.TopicRequest(topic="t"))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_calls_beyond_those_of_a_connection_wait(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port, "MOST_CALLS_OF_A_CONNECTION", 1)
    async with serve() as serving:
        await serving.broker.publish("t", [new_message()])
        client, other = await serving.client(), await serving.client()
        stream = watch(client)
        await stream.read()

        with pytest.raises(grpc.aio.AioRpcError) as waited:
            await client.GetTopic(pb.TopicRequest(topic="t"), timeout=0.3)
        assert waited.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await other.GetTopic(pb.TopicRequest(topic="t"), timeout=15)
        stream.cancel()
        await client.GetTopic(pb.TopicRequest(topic="t"), timeout=15)


async def test_client_that_takes_nothing_loses_its_stream_and_is_told(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "STALL_S", 0.2)
    async with serve() as serving:
        messages = [new_message(data=LARGE) for _ in range(MANY)]
        await serving.broker.publish("t", messages)
        slow, quick = watch(await serving.client()), watch(await serving.client())
        assert (await slow.read()).sequence == 1
        for n in range(MANY):  # it has time that the other needs and does not take
            assert (await quick.read()).sequence == n + 1
        while serving.broker.streams.open > 1:
            await serving.broker.publish("t", [new_message()])
            await quick.read()

        taken: list[int] = [1]
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await read_to_the_end(slow, taken)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "nothing of it was taken" in (ended.value.details() or "")
        assert taken == list(range(1, len(taken) + 1))
        assert len(taken) < MANY
        quick.cancel()
