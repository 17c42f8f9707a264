"""Where the stores under test live: opened, opened again, and taken over after a crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Protocol

from broker.nats_address import parse_address
from broker.store.jetstream import jetstream_store
from broker.store.jetstream.lease import LeaseTimes
from broker.store.jetstream.stream import Stream
from broker.store.port import Store
from broker.store.sqlite import SqliteStore
from broker.store.sqlite.commit_place import CommitPlace


class Clock:
    """A time that stands still until a test moves it."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Home(Protocol):
    """One store's data, and whoever owns it at present."""

    clock: Clock
    failures: list[str]

    @property
    def environment(self) -> Mapping[str, str]:
        """The settings with which another process opens the data."""

    async def open(self) -> Store:
        """Open a store on the data."""

    async def reopen(self) -> Store:
        """Close the present store and open another on its data."""

    async def crash(self) -> Store:
        """Open another store on what is durable, as if the present one had been killed now."""

    async def stored(self) -> bytes:
        """Return all that is kept: the file, and whatever it can be made from."""

    async def close(self) -> None:
        """Close every store."""


class OnTheLoop(CommitPlace):
    """Runs each COMMIT within a turn of the loop, so that a test's steps are the same each time."""

    def on_loop(self) -> bool:
        """Say yes."""
        return True


class SqliteHome:
    """A folder for each life of a SQLite store.

    A crash copies the files as they are and goes on with the copy, so that nothing the abandoned
    store still does can reach them.
    """

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.failures: list[str] = []
        self._folder = folder
        self._lives = count()
        self._open: list[SqliteStore] = []
        self._next_life()

    @property
    def path(self) -> Path:
        """The database file of the present life."""
        return self._life / "broker.db"

    @property
    def environment(self) -> Mapping[str, str]:
        return {"BROKER_STORE": f"sqlite:///{self.path}"}

    async def stored(self) -> bytes:
        return b"".join(file.read_bytes() for file in self._life.iterdir())

    def _next_life(self) -> None:
        self._life = self._folder / str(next(self._lives))
        self._life.mkdir()

    def store(self) -> SqliteStore:
        """Make a store on the present file, not opened."""
        failed: Callable[[str], None] = self.failures.append
        return SqliteStore(str(self.path), now=self.clock, failed=failed, commit_place=OnTheLoop)

    async def open(self) -> Store:
        store = self.store()
        await store.open()
        self._open.append(store)
        return store

    async def reopen(self) -> Store:
        await self.close()
        return await self.open()

    async def crash(self) -> Store:
        before = self.path
        self._next_life()
        for suffix in ("", "-wal"):  # the log last: it has all that is not in the file yet
            source = before.with_name(before.name + suffix)
            if source.exists():
                shutil.copyfile(source, self.path.with_name(self.path.name + suffix))
        await self.close()
        shutil.rmtree(before.parent)
        return await self.open()

    async def close(self) -> None:
        for store in self._open:
            await store.close()
        self._open.clear()


# Nobody else wants what a test has, so nothing is waited for and nothing lapses.
AT_ONCE = LeaseTimes(lapse_s=0.0, beat_s=3600.0, margin_s=0.0)


class JetStreamHome:
    """A journal on a real server, and a folder for each life of a store that follows it.

    After a crash another broker, with an empty folder, claims the journal: what the abandoned store
    still writes is refused from then on.
    """

    _names = count()

    def __init__(self, folder: Path, server: str) -> None:
        self.clock = Clock()
        self.failures: list[str] = []
        self._folder = folder
        self._lives = count()
        self._url = f"nats://{server}/home{next(self._names)}"
        self._open: list[SqliteStore] = []
        self._next_life()

    @property
    def environment(self) -> Mapping[str, str]:
        return {"BROKER_STORE": self._url, "BROKER_REPLICA": str(self._folder / "other")}

    def _next_life(self) -> None:
        self._life = self._folder / str(next(self._lives))

    def store(self, failures: list[str]) -> SqliteStore:
        """Make a store that follows the journal, not opened."""
        failed: Callable[[str], None] = failures.append
        return jetstream_store(
            parse_address(self._url),
            self._life,
            "http://127.0.0.1:1",
            now=self.clock,
            failed=failed,
            commit_place=OnTheLoop,
            times=AT_ONCE,
        )

    async def stored(self) -> bytes:
        kept = [file.read_bytes() for file in self._life.iterdir()]
        snapshot = self._folder / "snapshot"
        stream = Stream(parse_address(self._url))
        await stream.open()
        try:
            first, _ = await stream.bounds()
            after = first - 1
            while entries := await stream.read(after):
                kept += [entry.payload for entry in entries]
                after = entries[-1].seq
            if await stream.load(snapshot):
                kept.append(snapshot.read_bytes())
        finally:
            await stream.close()
        return b"".join(kept)

    async def open(self) -> Store:
        store = self.store(self.failures)
        await store.open()
        self._open.append(store)
        return store

    async def reopen(self) -> Store:
        await self.close()
        return await self.open()

    async def crash(self) -> Store:
        abandoned, self._open = self._open, []
        self._next_life()
        self.failures = []
        store = await self.open()
        for each in abandoned:
            await each.close()
        return store

    async def close(self) -> None:
        for store in self._open:
            await store.close()
        self._open.clear()
