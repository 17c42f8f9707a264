"""A loader that publishes over gRPC, as wrk does over HTTP.

`python -m bench.grpc_loader PORT TOPIC SECONDS AT_ONCE HOW EVENTS`: HOW is `calls` (a
call for each request, AT_ONCE of them under way) or `stream` (one stream, with AT_ONCE requests not
answered yet).
The outcome is printed as publish.lua prints it. The bytes of a request are made once and those of
an answer hardly looked at, so that Python is measured as little as can be.
"""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable

import grpc.aio
import uvloop

from bench.loader import LoadOutcome
from bench.messages import order
from bench.server_process import HOST
from broker_client.generated import broker_pb2, cloudevents_pb2

SERVICE = "/broker.v1.Broker"
PUBLISHED = 0x0A  # the key of PublishStreamResponse.published, which is its first byte


def request(topic: str, events: int) -> bytes:
    """Build a request of the usual message; the broker makes the ids."""
    event = cloudevents_pb2.CloudEvent(
        spec_version="1.0", type="order.created", binary_data=order()
    )
    content_type = cloudevents_pb2.CloudEvent.CloudEventAttributeValue(ce_string="application/json")
    event.attributes["datacontenttype"].CopyFrom(content_type)
    return broker_pb2.PublishRequest(topic=topic, events=[event] * events).SerializeToString()


async def make_calls(
    channel: grpc.aio.Channel, body: bytes, seconds: float, at_once: int
) -> LoadOutcome:
    """Call, one call after the other, `at_once` times side by side."""
    publish: Callable[..., grpc.aio.UnaryUnaryCall] = channel.unary_unary(f"{SERVICE}/Publish")
    answered = refused = 0
    until = time.perf_counter() + seconds

    async def calling() -> None:
        nonlocal answered, refused
        while time.perf_counter() < until:
            try:
                await publish(body)
            except grpc.aio.AioRpcError:
                refused += 1
            answered += 1

    await asyncio.gather(*(calling() for _ in range(at_once)))
    return LoadOutcome(seconds + time.perf_counter() - until, answered, refused, 0)


async def make_stream(
    channel: grpc.aio.Channel, body: bytes, seconds: float, at_once: int
) -> LoadOutcome:
    """Send on one stream, a request for each answer."""
    room = asyncio.Semaphore(at_once)
    until = time.perf_counter() + seconds
    answered = refused = 0

    async def requests() -> AsyncIterator[bytes]:
        while time.perf_counter() < until:
            await room.acquire()
            yield body

    stream: Callable[..., grpc.aio.StreamStreamCall] = channel.stream_stream(
        f"{SERVICE}/PublishStream"
    )
    async for answer in stream(requests()):
        answered += 1
        refused += answer[0] != PUBLISHED
        room.release()
    return LoadOutcome(seconds + time.perf_counter() - until, answered, refused, 0)


async def load(
    port: int, topic: str, seconds: float, at_once: int, how: str, events: int
) -> LoadOutcome:
    """Publish for so long."""
    body = request(topic, events)
    publishing = {"calls": make_calls, "stream": make_stream}[how]
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        await channel.channel_ready()
        return await publishing(channel, body, seconds, at_once)


def main() -> None:
    """Publish, then print the outcome."""
    port, topic, seconds, at_once, how, events = sys.argv[1:]
    outcome = uvloop.run(load(int(port), topic, float(seconds), int(at_once), how, int(events)))
    print(
        f'outcome {{"seconds": {outcome.seconds:.6f}, "answered": {outcome.answered},'
        f' "refused": {outcome.refused}, "broken": {outcome.broken}}}'
    )


if __name__ == "__main__":
    gc.disable()
    main()
