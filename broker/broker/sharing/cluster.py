"""A broker of several that share the work: it owns some cells, and stands by for the others."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Protocol

import msgspec

from broker.api.served import Served
from broker.auth import Keys, digest_of
from broker.life import Life
from broker.partition import HOME
from broker.sessions import Sessions
from broker.sharing.balance import heirs_of, next_hand_over
from broker.sharing.cell import Cell
from broker.sharing.key_follower import KeyFollower
from broker.sharing.members import Heartbeat, Members
from broker.sharing.trust import Trust

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
NONE: frozenset[int] = frozenset()

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Heartbeat).decode


class Speaks(Protocol):
    """The way to the other brokers."""

    async def open(self) -> None:
        """Connect; try until it succeeds."""

    async def say(self, said: bytes) -> None:
        """Tell everybody who listens, or nobody where that cannot be at the moment."""

    async def close(self) -> None:
        """Disconnect."""


class Cluster:
    """The cells of the store, as this broker has them."""

    def __init__(
        self,
        url: str,
        cells: int,
        make: Callable[[int], Life],
        begin: Callable[[int, Life], Coroutine[None, None, Served]],
        failed: Callable[[Exception], None],
        speaks: Callable[[Callable[[bytes], None]], Speaks],
        keys: Keys,
        sessions: Sessions,
        follower: Callable[[Callable[[], bool]], KeyFollower],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.count = cells
        self.secret = secrets.token_urlsafe(32)  # by which other brokers know this one
        self._url = url
        self._failed = failed
        self._speaks = speaks(self._hear)
        self._keys = keys
        self._sessions = sessions
        self._news_to_tell = asyncio.Event()  # set where something is to be said at once
        self._members = Members(url, monotonic)
        self._follower = follower(lambda: self.served(HOME) is not None)
        self._told: dict[str, float] = {}
        self._news: set[asyncio.Future[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._trust = Trust(monotonic)
        self._stopping = False
        self._ending: asyncio.Task[None] | None = None

        def made(number: int) -> Cell:
            return Cell(number, lambda: make(number), partial(begin, number), self._tell)

        self._cells = [made(number) for number in range(cells)]

    # -- what routing asks -------------------------------------------------------------------------

    def served(self, cell: int) -> Served | None:
        """Return what serves a cell here, None where it is not owned here."""
        return self._cells[cell].served

    def owner(self, cell: int) -> str | None:
        """Return the URL of another broker that owns a cell, None where that is not known."""
        owner = self._cells[cell].owner()
        return None if owner == self._url else owner  # what it owned before counts no more

    def rpc_owner(self, cell: int) -> str | None:
        """Return where the gRPC of that broker is, None likewise."""
        return self._cells[cell].rpc_owner()

    async def changed(self, within_s: float) -> None:
        """End when a cell is served here that was not, or after some seconds."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._news.add(news)
        try:
            await asyncio.wait((news,), timeout=within_s)
        finally:
            self._news.discard(news)

    def _tell(self) -> None:
        for news in self._news:
            if not news.done():
                news.set_result(None)

    def end(self) -> None:
        """Begin to leave each cell to another broker: the process stops.

        It stands by for the others until `stop`, for connections that are there yet.
        """
        if self._ending is None:
            self._stopping = True
            self._ending = asyncio.create_task(self._leave_all(), name="leave all cells")

    def is_of_a_broker(self, secret: str) -> bool:
        """Say whether a secret is that of another broker."""
        return self._members.has(digest_of(secret))

    def all_served(self) -> dict[int, Served]:
        """Return what serves the cells that are owned here."""
        return {cell.number: cell.served for cell in self._cells if cell.served is not None}

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Stand by for every cell; return once the first is owned, or another broker has it.

        The others wait for that one: a store with another number of cells is refused there.
        """
        failing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def failed(error: Exception) -> None:
            if failing.done():
                self._failed(error)
            else:
                failing.set_exception(error)

        home, *others = self._cells
        home.start(failed)
        waiting = asyncio.create_task(home.standing_by(), name="standing by")
        owning = asyncio.create_task(self._owning(home), name="owning")
        await asyncio.wait((failing, waiting, owning), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        owning.cancel()
        if failing.done():
            failing.result()
        failing.set_result(None)
        for cell in others:
            cell.start(self._failed)
        self._tasks = [
            asyncio.create_task(self._balance(), name="balance"),
            asyncio.create_task(self._follower.run(), name="follow keys"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def _owning(self, cell: Cell) -> None:
        while cell.served is None:
            await self.changed(HEARTBEAT_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            log.critical(
                "The task %s failed.",
                task.get_name(),
                exc_info=error,
                extra={"action": "task_failed"},
            )
            self._failed(error)

    async def stop(self) -> None:
        """Finish what is out, leave each cell to another broker, and stand by for none."""
        self.end()
        if self._ending is not None:
            await self._ending
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(cell.stop(None) for cell in self._cells))
        await self._speaks.close()

    async def _leave_all(self) -> None:
        await self._speaks.say(_encode(self._heartbeat()))
        owned = self.all_served()
        heirs = heirs_of(owned, self._url, self._owners(), self._members.able(frozenset()))
        await asyncio.gather(*(self._cells[cell].stop(heirs.get(cell)) for cell in owned))

    # -- the others --------------------------------------------------------------------------------

    async def _balance(self) -> None:
        """Say once a second who this is, and give what is too much to others."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(self._news_to_tell.set)

        self._sessions.changed = tell
        await self._speaks.open()
        while True:
            self._news_to_tell.clear()
            await self._speaks.say(_encode(self._heartbeat()))
            with contextlib.suppress(TimeoutError):
                # wait_for loses cancellations before Python 3.12: the broker would not stop.
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._news_to_tell.wait()
                continue
            self._sessions.honour(self._members.sessions())  # of who is gone, none
            self._give()

    def _give(self) -> None:
        if self._stopping or any(cell.leaves() for cell in self._cells):
            return
        owners, able = self._owners(), self._members.able(self._able())
        self._trust.look(owners)
        able = {url: cells if self._trust.trusts(url) else NONE for url, cells in able.items()}
        step = next_hand_over(owners, able)
        if step is not None and step.giver == self._url:
            self._trust.gave(step.cell, step.follower)
            self._cells[step.cell].leave(step.follower)

    def _owners(self) -> list[str | None]:
        return [
            self._url if cell.served is not None else self.owner(cell.number)
            for cell in self._cells
        ]

    def _able(self) -> frozenset[int]:
        return frozenset(cell.number for cell in self._cells if cell.able())

    def _heartbeat(self) -> Heartbeat:
        used = {} if self.served(HOME) is not None else dict(self._keys.used)
        news = {id_: at for id_, at in used.items() if self._told.get(id_) != at}
        self._told = used
        return Heartbeat(
            self._url,
            self._stopping,
            sorted(self._able()),
            news,
            self._sessions.begun_here(),
            digest_of(self.secret),
        )

    def _hear(self, said: bytes) -> None:
        try:
            heartbeat = _decode(said)
        except msgspec.DecodeError:
            return
        self._members.hear(heartbeat)
        self._sessions.honour(self._members.sessions())
        if self.served(HOME) is not None:
            for id_, at in heartbeat.used.items():
                self._keys.used[id_] = max(at, self._keys.used.get(id_, at))
