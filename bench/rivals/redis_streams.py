"""Redis Streams: an append-only file, synced before every answer."""

import re
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

from bench.loader import LoadOutcome
from bench.messages import order
from bench.rivals.rival import QUEUE, Rival, RivalServer
from bench.rivals.source import IN_FLIGHT, Taken
from bench.server_process import HOST, free_port, running

GROUP = "forwarders"
FIELD = "data"
BLOCK_MS = 1000
RATE = re.compile(r"([\d.]+) requests per second")


@contextmanager
def running_redis(folder: Path) -> Iterator[RivalServer]:
    """Start redis-server with an empty stream."""
    data, port = folder / "redis", free_port()
    data.mkdir()
    command = ["redis-server", "--bind", HOST, "--port", str(port), "--dir", str(data.absolute())]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    with running(command, port=port, ready=_answers, log=folder / "redis.log") as process:
        with closing(redis.Redis(HOST, port)) as client:
            client.xgroup_create(QUEUE, GROUP, mkstream=True)
        yield RivalServer(process, data)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def count(port: int) -> int:
    """Count the messages in the stream."""
    with closing(redis.Redis(HOST, port)) as client:
        return int(client.xlen(QUEUE))


def load(port: int, connections: int, messages: int) -> LoadOutcome:
    """Publish with redis-benchmark, Redis's own loader: as many connections, closed loop."""
    command = ["redis-benchmark", "-h", HOST, "-p", str(port), "-c", str(connections)]
    command += ["-n", str(messages), "-q", "XADD", QUEUE, "*", FIELD, order().decode()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return parse_load(done.stdout, messages)


def parse_load(output: str, messages: int) -> LoadOutcome:
    """Read what redis-benchmark prints; that all were stored is checked by counting them."""
    found = RATE.findall(output)
    if not found:
        raise ValueError(f"redis-benchmark printed no rate: {output!r}")
    return LoadOutcome(messages / float(found[-1]), messages, 0, 0)


class RedisSource:
    """A consumer of a group."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def messages(self) -> AsyncIterator[Taken]:
        """Read as many as may be in flight, over and over."""
        while True:
            read: Any = await self._client.xreadgroup(
                GROUP, "forwarder", {QUEUE: ">"}, count=IN_FLIGHT, block=BLOCK_MS
            )
            for _, entries in read:
                for entry, fields in entries:
                    yield Taken(
                        entry.decode(), fields[FIELD.encode()], partial(self._acknowledge, entry)
                    )

    async def _acknowledge(self, entry: bytes) -> None:
        await self._client.xack(QUEUE, GROUP, entry)


@asynccontextmanager
async def redis_source(port: int) -> AsyncIterator[RedisSource]:
    """Consume the stream from its beginning."""
    # One connection reads, and as many acknowledge at once as messages are in flight.
    client = redis.asyncio.Redis(host=HOST, port=port, protocol=2, max_connections=IN_FLIGHT + 1)
    try:
        yield RedisSource(client)
    finally:
        await client.aclose()


RIVAL = Rival(
    name="redis",
    title="Redis Streams",
    program="redis-server",
    install="apt-get install redis-server redis-tools",
    version=("redis-server", "--version"),
    settings="`appendonly yes`, `appendfsync always`; XADD, and XREADGROUP with an XACK for each",
    running=running_redis,
    count=count,
    load=load,
)
