"""What lies between one program and the servers that it talks to: it can be cut, or held."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024


class Line:
    """Listens at a port for each server, and passes on what comes, both ways.

    Runs in a thread of its own. Whoever connects to one of `ports` talks to the server at the same
    place of `servers`.
    """

    def __init__(self, servers: Sequence[int]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="line")
        self._thread.start()
        self._cut = False
        self._there, self._back = asyncio.Event(), asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listeners: list[asyncio.Server] = []
        self.ports: Sequence[int] = self._run(self._listen(servers))

    def cut(self) -> None:
        """End every connection, and new ones at once."""
        self._run(self._set(cut=True, there=True, back=True))

    def hold(self, *, answers_only: bool = False) -> None:
        """Keep back what is sent, in both directions, or what the servers send; nobody is told."""
        self._run(self._set(cut=False, there=answers_only, back=False))

    def mend(self) -> None:
        """Pass everything on again, first what was kept back."""
        self._run(self._set(cut=False, there=True, back=True))

    def close(self) -> None:
        """End it."""
        if self._thread.is_alive():
            self._run(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self, servers: Sequence[int]) -> Sequence[int]:
        await self._set(cut=False, there=True, back=True)
        for server in servers:
            self._listeners.append(await asyncio.start_server(self._accepts(server), HOST, 0))
        return [int(each.sockets[0].getsockname()[1]) for each in self._listeners]

    async def _set(self, *, cut: bool, there: bool, back: bool) -> None:
        self._cut = cut
        for gate, is_open in ((self._there, there), (self._back, back)):
            if is_open:
                gate.set()
            else:
                gate.clear()
        if cut:
            self._end_connections()

    def _end_connections(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._end_connections()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepts(self, server: int) -> Any:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._connect(server, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return accept

    async def _connect(
        self, server: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers.add(writer)
        try:
            if not self._cut:
                with suppress(OSError):
                    await self._join(server, reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _join(
        self, server: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass on both ways until one side ends."""
        answers, asks = await asyncio.open_connection(HOST, server)
        self._writers.add(asks)
        ways = [
            asyncio.ensure_future(_pass(reader, asks, self._there)),
            asyncio.ensure_future(_pass(answers, writer, self._back)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers.discard(asks)
            asks.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        await gate.wait()
        writer.write(chunk)
        await writer.drain()
