"""Group commit: what arrives while one commit runs is written by the next."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from broker.histogram import Histogram
from broker.store.port import LeaseLost, Unavailable, Waiter
from broker.store.sqlite.commit_place import CommitPlace
from broker.store.sqlite.journal import Executes, Journal, Recorder
from broker.store.sqlite.many_rows import ManyRows
from broker.store.sqlite.queries import SQL

log = logging.getLogger(__name__)

LAZY_S = 0.05
IDLE_TURNS = 2


class Writer(Protocol):
    """Something that has rows of its own to write with the next group."""

    def write(self, connection: Executes) -> None:
        """Write within the open transaction."""

    def written(self) -> None:
        """Hear that what was written is durable."""


class Group:
    """One transaction in the making."""

    __slots__ = ("removals", "statements", "waiters", "writers")

    def __init__(self) -> None:
        # First of all, for what is removed here may come again in this same group.
        self.removals: list[tuple[str, tuple[Any, ...]]] = []
        self.writers: dict[Writer, None] = {}
        self.statements: list[tuple[str, tuple[Any, ...]]] = []
        self.waiters: list[Waiter] = []

    def write(self, connection: Executes) -> None:
        """Write everything, within the open transaction."""
        for name, parameters in self.removals:
            connection.execute(SQL[name], parameters)
        for writer in self.writers:
            writer.write(connection)
        for name, parameters in self.statements:
            connection.execute(SQL[name], parameters)


class GroupCommit:
    """The only writer of the file.

    Two idle turns of the loop before each group let in what has already arrived; a timer would
    halve the rate.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        failed: Callable[[str], None],
        place: CommitPlace,
        journal: Journal | None = None,
    ) -> None:
        self._connection = connection
        self._many_rows = ManyRows(connection)
        self._journal = journal
        self._failed = failed
        self._open = Group()
        self._writing = Group()  # what is being made durable now
        self._bell = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, "commit")
        self._place = place
        self._stopping = False
        # Held from BEGIN to COMMIT. SQLite's own lock is polled for, at up to 100 ms: whoever wants
        # to write beside a busy broker would poll for seconds.
        self.writing = threading.Lock()
        self.failure: str | None = None
        self.commits = 0
        self.times = Histogram()

    @property
    def open(self) -> Group:
        """The group that the next commit writes; whoever adds to it rings, or rings lazily."""
        return self._open

    def ring(self) -> None:
        """Have the open group committed now."""
        self._bell.set()

    def ring_lazily(self) -> None:
        """Have the open group committed within LAZY_S."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LAZY_S, self._bell.set)

    def durable(self) -> asyncio.Future[None]:
        """Return a future that ends once everything added so far is on disk.

        It is the caller's own: cancelling it disturbs nobody else. The next commit begins no sooner
        than IDLE_TURNS later: who awaits it goes on while none is under way.
        """
        waiter = asyncio.get_running_loop().create_future()
        self.tell(waiter)
        return waiter

    def tell(self, waiter: Waiter) -> None:
        """Tell a waiter, later than now, once everything added so far is on disk."""
        if self.failure is None and not self._stopping:
            self._open.waiters.append(waiter)
            return
        error = Unavailable(self.failure or "the store is closed")
        asyncio.get_running_loop().call_soon(_tell_of, error, waiter)

    async def run(self) -> None:
        """Commit group after group until `stop` or until a commit has failed.

        It must not be cancelled: a COMMIT in the thread would outlive it, with nobody to answer.
        """
        while self.failure is None and not self._stopping:
            await self._bell.wait()
            for _ in range(IDLE_TURNS):
                await asyncio.sleep(0)
            if self.failure is None:
                await self._commit_open()
        if self.failure is None:
            await self._commit_open()
        self._thread.shutdown()

    def stop(self) -> None:
        """Have `run` commit what is left and return. What comes after is refused."""
        self._stopping = True
        self._bell.set()

    async def _commit_open(self) -> None:
        self._bell.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.writing.acquire(blocking=False):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self.writing.acquire)
        group, self._open = self._open, Group()
        self._writing = group
        try:
            await self._write(group.write)
            await self._commit(len(group.waiters))
        except Exception as error:  # whatever it is, no waiter may hang
            self._fail(error)
            return
        finally:
            self.writing.release()
        self.commits += 1
        for writer in group.writers:
            writer.written()
        self._writing = Group()  # nobody is told twice, nor kept alive until the next commit
        for waiter in group.waiters:
            _tell_of(None, waiter)

    async def write_first(self, names: Sequence[str]) -> None:
        """Execute statements before `run` begins, as a group of their own."""

        def write(connection: Executes) -> None:
            for name in names:
                connection.execute(SQL[name])

        await self._write(write)
        self._connection.commit()

    async def _write(self, write: Callable[[Executes], None]) -> None:
        """Execute what a group has, up to the COMMIT, and have the journal keep it, if any does."""
        self._connection.execute("BEGIN IMMEDIATE")
        if self._journal is None:
            write(self._many_rows)
            return
        recorder = Recorder(self._many_rows)
        write(recorder)
        if executed := recorder.take():
            await self._journal.append(self._connection, executed)

    def lose(self, reason: str) -> None:
        """Take no more writes: the journal is another broker's."""
        self._fail(LeaseLost(reason))

    async def _commit(self, waiters: int) -> None:
        started = time.perf_counter()
        if self._place.on_loop():
            self._connection.commit()
        else:
            loop = asyncio.get_running_loop()
            await asyncio.shield(loop.run_in_executor(self._thread, self._connection.commit))
        took = time.perf_counter() - started
        self.times.observe(took)
        self._place.observe(took, waiters)

    def _fail(self, error: Exception) -> None:
        """Tell every waiter, and never try the COMMIT again.

        After a failed fsync the kernel may have dropped the pages, and a second try would report
        success for what is gone.
        """
        if self.failure is not None:
            return
        self.failure = f"the store failed: {error}"
        log.critical("A commit failed: %s", error, extra={"action": "commit_failed"})
        for waiter in (*self._writing.waiters, *self._open.waiters):
            _tell_of(Unavailable(self.failure), waiter)
        self._failed(self.failure)


def _tell_of(error: Unavailable | None, waiter: Waiter) -> None:
    if waiter.done():
        return
    try:
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
    except Exception:  # the others are to be told as well
        log.exception("Nobody heard of a commit.", extra={"action": "waiter_failed"})
