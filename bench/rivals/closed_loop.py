"""A loader for brokers that do not speak HTTP, as wrk is one for those that do.

`python -m bench.rivals.closed_loop NAME PORT CONNECTIONS MESSAGES`: each connection sends its next
message after the answer to the last; the outcome is printed as publish.lua prints it. The bytes of
a message are made once, so that Python is not what is measured.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import uvloop

from bench.loader import LoadOutcome
from bench.messages import order
from bench.rivals.dialect import Dialect
from bench.rivals.known import DIALECTS
from bench.server_process import HOST


@dataclass(slots=True)
class Tally:
    """How many messages are left to send, and what became of the others."""

    left: int
    answered: int = 0
    refused: int = 0
    broken: int = 0

    def take(self) -> bool:
        """Claim one to send; say whether there was one."""
        self.left -= 1
        return self.left >= 0


class Connection(asyncio.Protocol):
    """A publisher."""

    def __init__(self, dialect: Dialect, body: bytes, tally: Tally) -> None:
        self._dialect = dialect
        self._message = dialect.publish(body)
        self._tally = tally
        self._buffer = bytearray()
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._dialect.hello())

    def send(self) -> None:
        """Send the next message, or end if there is none."""
        if self._tally.take():
            self._transport.write(self._message)
        elif not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Count what is confirmed, and send as much again."""
        self._buffer += data
        answer = self._dialect.answered(self._buffer)
        if answer.reply:
            self._transport.write(answer.reply)
        if answer.begin and not self.begun.done():
            self.begun.set_result(None)
        self._tally.refused += answer.refused
        for _ in range(answer.confirmed + answer.refused):
            self._tally.answered += 1
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count what was on its way as broken."""
        for future in (self.begun, self.ended):
            if not future.done():
                self._tally.broken += 1
                future.set_result(None)


async def load(
    dialect: Callable[[], Dialect], port: int, connections: int, messages: int
) -> LoadOutcome:
    """Publish so many messages."""
    loop, tally, body = asyncio.get_running_loop(), Tally(messages), order()
    opened = []
    for _ in range(connections):
        _, connection = await loop.create_connection(
            lambda: Connection(dialect(), body, tally), HOST, port
        )
        opened.append(connection)
    await asyncio.gather(*(connection.begun for connection in opened))

    started_at = time.perf_counter()
    for connection in opened:
        connection.send()
    await asyncio.gather(*(connection.ended for connection in opened))
    seconds = time.perf_counter() - started_at
    return LoadOutcome(seconds, tally.answered, tally.refused, tally.broken)


def main(name: str, port: int, connections: int, messages: int) -> None:
    """Publish, then print the outcome."""
    outcome = uvloop.run(load(DIALECTS[name], port, connections, messages))
    print(
        f'outcome {{"seconds": {outcome.seconds:.6f}, "answered": {outcome.answered},'
        f' "refused": {outcome.refused}, "broken": {outcome.broken}}}'
    )


if __name__ == "__main__":
    gc.disable()
    main(sys.argv[1], *map(int, sys.argv[2:5]))
