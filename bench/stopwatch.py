"""An endpoint that counts events and times their arrival: `python -m bench.stopwatch PORT`.

A webhook in batch format is counted only. Any other one must hold a JSON object with the number
`index`, under which the time of its arrival is kept.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from bench.deliveries import Deliveries
from bench.http_message import Message, take_message
from bench.server_process import HOST, ServerProcess, free_port, running

BATCH_TYPE = b"application/cloudevents-batch+json"
# Each event in a batch has this member once, and the published data does not have it.
EVENT_MARK = b'"specversion"'
NS_PER_S = 1e9


class Stamped(msgspec.Struct):
    """The part of a published message that says which one it is."""

    index: int


@dataclass(slots=True)
class Arrivals:
    """How much has come, and when each indexed message came first."""

    deliveries: Deliveries = field(default_factory=lambda: Deliveries(0, 0, 0.0, 0.0))
    at_ns: dict[int, int] = field(default_factory=dict)

    def add(self, webhook: Message, now_ns: int) -> None:
        """Count what one webhook carries."""
        if BATCH_TYPE in webhook.head:
            count, again = webhook.body.count(EVENT_MARK), 0
        else:
            index = decode_stamp(webhook.body).index
            count, again = 1, int(index in self.at_ns)
            self.at_ns.setdefault(index, now_ns)
        so_far, now = self.deliveries, now_ns / NS_PER_S
        self.deliveries = Deliveries(
            so_far.received + count, so_far.duplicates + again, so_far.first_at or now, now
        )


decode_stamp = msgspec.json.Decoder(Stamped).decode


class StopwatchProtocol(asyncio.Protocol):
    """One connection: webhooks are POSTed, the outcome is read with GET."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take every complete request off the buffer and answer it."""
        now_ns = time.time_ns()
        self._buffer += data
        while (request := take_message(self._buffer)) is not None:
            self._transport.write(self._answer(request, now_ns))

    def _answer(self, request: Message, now_ns: int) -> bytes:
        if request.head.startswith(b"POST "):
            if b"webhook-signature: v1," not in request.head.lower():
                return b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
            self._arrivals.add(request, now_ns)
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if request.head.startswith(b"GET /arrivals "):
            return _json(msgspec.json.encode(self._arrivals.at_ns))
        return _json(msgspec.json.encode(self._arrivals.deliveries))


def _json(document: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(document) + document


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """A running stopwatch."""

    process: ServerProcess

    @property
    def endpoint(self) -> str:
        """Give the URL to subscribe."""
        return f"{self.process.url}/webhook"

    def received(self) -> int:
        """Ask how many messages have come so far."""
        return self.deliveries().received

    def deliveries(self) -> Deliveries:
        """Ask what has come so far; repeats inside batches count as received only."""
        return msgspec.convert(self.process.get("/deliveries"), Deliveries)

    def arrivals_ns(self) -> dict[int, int]:
        """Ask when each indexed message arrived first."""
        found = self.process.get("/arrivals")
        return {int(index): at_ns for index, at_ns in found.items()}


@contextmanager
def running_stopwatch(folder: Path, port: int | None = None) -> Iterator[Stopwatch]:
    """Start a stopwatch as the endpoint of one case, on a free port unless one is given."""
    port = free_port() if port is None else port
    command = [sys.executable, "-m", "bench.stopwatch", str(port)]
    server = running(command, port=port, ready_path="/deliveries", log=folder / "stopwatch.log")
    with server as process:
        yield Stopwatch(process)


async def serve(port: int) -> None:
    """Answer until the process is ended."""
    arrivals = Arrivals()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: StopwatchProtocol(arrivals), HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    gc.disable()  # a collection would show up as a late arrival
    uvloop.run(serve(int(sys.argv[1])))
