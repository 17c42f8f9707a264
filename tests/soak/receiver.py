"""The endpoints of the soak: one process that answers each subscription after its kind.

It speaks just enough HTTP for libcurl, so that it costs little beside the broker that is watched.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Mapping
from contextlib import suppress

from soak.arrivals import Arrivals
from soak.kinds import FAILS_ONCE, GIVEN_UP, RECEIVED, SLOW_S

COUNTS = "/counts"


class Endpoints:
    """What has come, by subscription; `given_up` are those that were refused for good."""

    def __init__(self) -> None:
        self.took = {kind.name: Arrivals() for kind in RECEIVED}
        self.given_up = Arrivals()

    def answer(self, name: str, headers: Mapping[bytes, bytes], body: bytes) -> tuple[int, str]:
        """Take a request in; return the status and further header lines."""
        took = self.took[name]
        if name == "batched":
            for event in json.loads(body):
                took.add(event["sequence"])
            return 200, ""
        sequence = int(headers[b"ce-sequence"])
        if name == "failing":
            if sequence % GIVEN_UP == 0:
                self.given_up.add(sequence)
                return 422, ""
            if sequence % FAILS_ONCE == 0 and headers[b"webhook-attempt"] == b"1":
                return 500, ""
        took.add(sequence)
        return 200, "webhook-receipt: processed\r\n" if name == "exactly-once" else ""

    def counts(self) -> dict[str, dict[str, int]]:
        """Tell what has come."""
        told = {**self.took, "given-up": self.given_up}
        return {name: {"distinct": a.distinct, "again": a.again} for name, a in told.items()}


class Connection(asyncio.Protocol):
    """One connection: requests come one after the other, each is answered in time."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            line, *others = bytes(self._buffer[:end]).split(b"\r\n")
            pairs = [other.split(b":", 1) for other in others]
            headers = {name.lower(): value.strip() for name, value in pairs}
            whole = end + 4 + int(headers.get(b"content-length", b"0"))
            if len(self._buffer) < whole:
                return
            body = bytes(self._buffer[end + 4 : whole])
            del self._buffer[:whole]
            self._answer(line.split(b" ")[1].decode(), headers, body)

    def _answer(self, path: str, headers: Mapping[bytes, bytes], body: bytes) -> None:
        if path == COUNTS:
            self._send(200, "", json.dumps(self._endpoints.counts()).encode())
            return
        name = path.strip("/")
        status, lines = self._endpoints.answer(name, headers, body)
        if name == "slow":
            asyncio.get_running_loop().call_later(SLOW_S, self._send, status, lines)
        else:
            self._send(status, lines)

    def _send(self, status: int, lines: str, body: bytes = b"") -> None:
        if self._transport is not None and not self._transport.is_closing():
            head = f"HTTP/1.1 {status} x\r\n{lines}content-length: {len(body)}\r\n\r\n"
            self._transport.write(head.encode() + body)


async def serve(port: int) -> None:
    """Receive until told to stop."""
    endpoints = Endpoints()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(lambda: Connection(endpoints), "127.0.0.1", port, backlog=512)
    await stopped.wait()
    server.close()


def main() -> None:
    """Receive at the port that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m soak.receiver", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
