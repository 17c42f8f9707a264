"""Make webhooks of another broker's messages: `python -m bench.rivals.forwarder NAME PORT URL`.

It takes messages with that broker's own client, posts each to the URL, signed as this broker signs
(Standard Webhooks), and acknowledges it after a 2xx. So it does what this broker's courier does,
without its retries, circuit and order: a message that is not taken ends the forwarder.
"""

import asyncio
import base64
import gc
import hmac
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.http_message import take_message
from bench.rivals.known import SOURCES
from bench.rivals.processes import READY
from bench.rivals.source import IN_FLIGHT, Source, Taken

SECRET = b"a secret of twenty-four."


class Sender(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self, free: "deque[Sender]", freed: asyncio.Semaphore) -> None:
        self._free = free
        self._freed = freed
        self._buffer = bytearray()
        self._taken: Taken | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to send."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, taken: Taken) -> None:
        """Send one request."""
        self._taken = taken
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read the answer; have the message acknowledged."""
        self._buffer += data
        answer = take_message(self._buffer)
        if answer is None:
            return
        if not answer.head.startswith(b"HTTP/1.1 2"):
            self.failed.set_exception(RuntimeError(f"the endpoint answered {answer.head!r}"))
            return
        taken, self._taken = self._taken, None
        assert taken is not None
        self._acknowledging = asyncio.ensure_future(self._acknowledge(taken))

    def connection_lost(self, exc: Exception | None) -> None:
        """A message may have been on its way."""
        if not self.failed.done():
            self.failed.set_exception(exc or ConnectionError("the endpoint hung up"))

    async def _acknowledge(self, taken: Taken) -> None:
        await taken.acknowledge()
        self._free.append(self)
        self._freed.release()


def signed_request(host: str, path: str, taken: Taken, now: int) -> bytes:
    """Build the webhook of one message."""
    message_id = f"msg_{taken.sequence}".encode()
    signed = b"%s.%d.%s" % (message_id, now, taken.body)
    signature = base64.b64encode(hmac.digest(SECRET, signed, "sha256"))
    return (
        b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nwebhook-id: %s\r\n"
        b"webhook-timestamp: %d\r\nwebhook-signature: v1,%s\r\nce-sequence: %s\r\n"
        b"Content-Length: %d\r\n\r\n%s"
    ) % (
        path.encode(),
        host.encode(),
        message_id,
        now,
        signature,
        taken.sequence.encode(),
        len(taken.body),
        taken.body,
    )


async def forward(source: Source, url: str) -> None:
    """Send what comes, so many at a time, until the process is ended."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    async with senders(parts.hostname, parts.port or 80) as (free, freed):
        async for taken in source.messages():
            await freed.acquire()
            request = signed_request(parts.netloc, parts.path, taken, int(time.time()))
            free.popleft().send(request, taken)


@asynccontextmanager
async def senders(host: str, port: int) -> AsyncIterator[tuple["deque[Sender]", asyncio.Semaphore]]:
    """Open the connections to the endpoint; end everything when one of them fails."""
    loop = asyncio.get_running_loop()
    free: deque[Sender] = deque()
    freed = asyncio.Semaphore(IN_FLIGHT)
    for _ in range(IN_FLIGHT):
        _, sender = await loop.create_connection(lambda: Sender(free, freed), host, port)
        free.append(sender)
        sender.failed.add_done_callback(_end)
    yield free, freed


def _end(failed: "asyncio.Future[None]") -> None:
    sys.exit(f"the forwarder ends: {failed.exception()}")


async def main(name: str, port: int, url: str) -> None:
    """Forward the messages of one rival."""
    async with SOURCES[name](port) as source:
        print(READY, flush=True)
        await forward(source, url)


if __name__ == "__main__":
    gc.freeze()
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
