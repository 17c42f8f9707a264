"""A journal that waits for nobody: it has a thread, and an event loop, of its own."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from broker.store.jetstream.journal import JetStreamJournal
from broker.store.sqlite.journal import Execution

T = TypeVar("T")


class JournalThread:
    """Implements broker.store.sqlite.journal.Journal with another that does.

    An owner has to write something every second. The broker's own loop cannot promise that: ten
    thousand subscriptions that begin, or a group of what a million messages have left, take it
    longer than a lease lasts, and so they would take whoever owns the journal next. What hangs for
    good is ended by gunicorn, which the broker's loop has to tell that it is alive.
    """

    def __init__(self, journal: JetStreamJournal) -> None:
        self._journal = journal
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self.standing_by = asyncio.Event()

    async def take_over(self, path: Path, lost: Callable[[str], None]) -> None:
        here = asyncio.get_running_loop()

        def tell(what: Callable[..., None], *arguments: str) -> None:
            with contextlib.suppress(RuntimeError):  # nobody is there any more
                here.call_soon_threadsafe(what, *arguments)

        async def stand_by() -> None:
            await self._journal.standing_by.wait()
            tell(self.standing_by.set)

        async def take_over() -> None:
            standing_by = asyncio.create_task(stand_by(), name="standing by")
            try:
                await self._journal.take_over(path, lambda reason: tell(lost, reason))
            finally:
                standing_by.cancel()

        await self._begin()
        await self._there(take_over())

    @property
    def caught_up(self) -> bool:
        return self._journal.caught_up

    async def append(self, connection: sqlite3.Connection, executed: Sequence[Execution]) -> None:
        await self._there(self._journal.append(connection, executed))

    async def condense(self) -> None:
        await self._there(self._journal.condense())

    async def let_go(self, follower: str | None) -> None:
        if self._thread is None or self._loop is None or self._ending is None:
            return
        await self._there(self._journal.let_go(follower))
        self._loop.call_soon_threadsafe(self._ending.set)
        await asyncio.to_thread(self._thread.join)
        self._thread = None

    def owner(self) -> str | None:
        return self._journal.owner()

    def rpc_owner(self) -> str | None:
        return self._journal.rpc_owner()

    def may_send_until(self) -> float:
        return self._journal.may_send_until()

    async def _begin(self) -> None:
        begun: Future[None] = Future()

        async def serve() -> None:
            self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
            begun.set_result(None)
            await self._ending.wait()

        # A daemon: a broker that fails does not wait for what it has not closed.
        self._thread = threading.Thread(
            target=lambda: asyncio.run(serve()), name="journal", daemon=True
        )
        self._thread.start()
        await asyncio.wrap_future(begun)

    async def _there(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("the journal has not been begun")
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))
