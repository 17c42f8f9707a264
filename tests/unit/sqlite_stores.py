"""SQLite stores in folders of a test's own, under a clock that the test moves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from broker.model import Appended, NewMessage
from broker.store.sqlite import SqliteStore
from contract.homes import OnTheLoop

TOPIC = "orders"
SOURCE = "/s"
NOW = 1_000_000.0
WINDOW_S = 50.0


class Clock:
    """A time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Stores:
    """One store after the other on the same data."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.folder = folder
        self._lives = count()
        self._life = self._next_life()
        self.failures: list[str] = []
        self.store: SqliteStore

    def _next_life(self) -> Path:
        life = self.folder / str(next(self._lives))
        life.mkdir(parents=True)
        return life

    async def open(self) -> SqliteStore:
        """Open a store on the present data."""
        self.store = SqliteStore(
            str(self._life / "broker.db"),
            now=self.clock,
            failed=self.failures.append,
            commit_place=OnTheLoop,
        )
        await self.store.open()
        return self.store

    async def reopen(self) -> SqliteStore:
        """Close the store and open the next."""
        await self.store.close()
        return await self.open()

    def copy(self) -> Stores:
        """Take what is on disk at this moment, as a kill would leave it."""
        copied = Stores(self.folder / f"copy-{next(self._lives)}")
        copied.clock.now = self.clock.now
        for suffix in ("", "-wal"):
            file = self._life / f"broker.db{suffix}"
            if file.exists():
                shutil.copyfile(file, copied._life / file.name)
        return copied


def message(
    id_: str,
    deliver_at: float | None = None,
    data: bytes = b"1",
    key: str | None = None,
    source: str = SOURCE,
) -> NewMessage:
    """Make a message as the readers do."""
    attributes = json.dumps({"id": id_, "source": source, "type": "t"}).encode()
    fingerprint = data + str(deliver_at).encode()
    return NewMessage(id_, source, key, attributes, data, fingerprint, deliver_at)


async def ids_in_log(store: SqliteStore, topic: str = TOPIC) -> list[str]:
    """Read the ids of a topic's messages, in the order of the log."""
    found, _ = await store.read(topic, 0, 100_000)
    return [id_of(each.attributes) for each in found]


async def ids_waiting(store: SqliteStore, topic: str = TOPIC) -> list[str]:
    """Read the ids of the messages that wait, in the order in which they will join."""
    found, _ = await store.scheduled(topic, (0.0, 0), 100_000)
    return [id_of(each.attributes) for each in found]


def id_of(attributes: bytes) -> str:
    """Give the id of an event."""
    event: dict[str, Any] = json.loads(attributes)
    return str(event["id"])


def outcomes(appended: Sequence[Appended]) -> list[tuple[int | None, bool]]:
    """Give what is told of each message."""
    return [(each.sequence, each.duplicate) for each in appended]
