"""A courier sends no host more at once than it can, and lets nobody wait for a slow one."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest

from broker.dispatch.courier import Introduction
from broker.dispatch.frames import Endpoint, Item, Job, Jobs, Outcome, framed, split
from broker.dispatch.hosts import MOST

SLOW, HEALTHY = 1, 2
MORE_THAN_MOST = MOST + 50
WITHIN_S = 60
EVENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'
decode = msgspec.msgpack.Decoder(list[Outcome]).decode


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Allow as many connections as a broker has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Host:
    """A server that answers /healthy at once, and /slow when it is told to."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.full = asyncio.Event()
        self.release = asyncio.Event()
        self.connections = 0
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self._answer(reader, writer)
        writer.close()
        await writer.wait_closed()
        self.connections -= 1
        if not self.connections:
            self.left.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            path = line.decode().split()[1]
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
            self.seen[path] += 1
            if path == "/slow":
                if self.seen[path] == MOST:
                    self.full.set()
                await self.release.wait()
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")


class Courier:
    """A courier's process, and its outcomes so far."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        told = Introduction(["127.0.0.0/8"], "test")
        arguments = [str(theirs.fileno()), str(os.getpid()), msgspec.json.encode(told).decode()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "broker.dispatch.courier", *arguments],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.ours.setblocking(False)
        self.ended: set[int] = set()
        self._buffer = bytearray()

    async def tell(self, frame: Endpoint | Jobs) -> None:
        await asyncio.get_running_loop().sock_sendall(self.ours, framed(frame))

    async def read_until(self, jobs: set[int]) -> None:
        loop = asyncio.get_running_loop()
        while not jobs <= self.ended:
            self._buffer += await loop.sock_recv(self.ours, 1 << 16)
            for body in split(self._buffer):
                for outcome in decode(body):
                    assert outcome.status == 204, outcome
                    self.ended.add(outcome.job)

    def close(self) -> None:
        self.ours.close()
        assert self.process.wait(WITHIN_S) == 0


def endpoint(id_: int, port: int, path: str) -> Endpoint:
    url = f"http://127.0.0.1:{port}{path}"
    return Endpoint(id_, url, "binary", [b"k" * 24], [], WITHIN_S * 1000, [], "msg_")


def jobs_of(id_: int, ids: range) -> Jobs:
    return Jobs([Job(each, id_, 1, [Item(each, EVENT, b"{}")]) for each in ids])


@pytest.mark.usefixtures("many_descriptors")
def test_slow_endpoint_of_a_host_fills_it_and_holds_up_no_other() -> None:
    async def scenario() -> None:
        host = Host()
        server = await asyncio.start_server(host.serve, "127.0.0.1", 0, backlog=MORE_THAN_MOST)
        port = server.sockets[0].getsockname()[1]
        courier = Courier()
        try:
            for id_, path in ((SLOW, "/slow"), (HEALTHY, "/healthy")):
                await courier.tell(endpoint(id_, port, path))
            slow, healthy = range(MORE_THAN_MOST), range(MORE_THAN_MOST, MORE_THAN_MOST + 20)
            await courier.tell(jobs_of(SLOW, slow))
            async with asyncio.timeout(WITHIN_S):
                await host.full.wait()
                await courier.tell(jobs_of(HEALTHY, healthy))
                await courier.read_until(set(healthy))
                assert host.seen == {"/slow": MOST, "/healthy": len(healthy)}

                host.release.set()
                await courier.read_until({*slow, *healthy})
                assert host.seen["/slow"] == MORE_THAN_MOST
        finally:
            courier.close()
            server.close()
            async with asyncio.timeout(WITHIN_S):
                await host.left.wait()

    asyncio.run(scenario())
