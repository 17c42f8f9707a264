"""Connections to other brokers' gRPC, by address."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from broker.errors import NoOwner
from broker.rpc.port import MOST_CALLS_OF_A_CONNECTION

CONNECT_S = 2.0
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # or all lines to an address would share one connection
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # whoever calls repeats
)


class Line:
    """A connection to a broker, and how many calls it has."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self.calls = 0


class Lines:
    """As many connections to each broker as its calls need: one takes so many and no more."""

    def __init__(self) -> None:
        self._lines: dict[str, list[Line]] = {}

    @asynccontextmanager
    async def to(self, address: str) -> AsyncIterator[grpc.aio.Channel]:
        """Have a connection for one call. Raises NoOwner where there is none to be had."""
        lines = self._lines.setdefault(address, [])
        line = next((each for each in lines if each.calls < MOST_CALLS_OF_A_CONNECTION), None)
        if line is None:
            line = Line(address)
            lines.append(line)
        line.calls += 1
        try:
            try:
                async with asyncio.timeout(CONNECT_S):
                    await line.channel.channel_ready()
            except TimeoutError:
                # The next call tries a new one: this one would wait longer from time to time.
                if line in lines:
                    lines.remove(line)
                raise NoOwner from None
            yield line.channel
        finally:
            line.calls -= 1
            if not line.calls and line not in lines:
                await line.channel.close()

    def calls(self) -> int:
        """Count the calls that have a connection."""
        return sum(line.calls for lines in self._lines.values() for line in lines)

    async def close(self) -> None:
        """Close all of them."""
        lines = [line for each in self._lines.values() for line in each]
        self._lines.clear()
        for line in lines:
            await line.channel.close()
