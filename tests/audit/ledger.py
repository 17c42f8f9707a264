"""What the receiver has received, on its own disk; killed or not, what it answered for is there."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from threading import Lock

from audit.subscriptions import AUDITED
from broker_client import Event, Inbox

SCHEMA = """
CREATE TABLE IF NOT EXISTS arrival (
    number INTEGER PRIMARY KEY, request INTEGER, topic TEXT, subscription TEXT, id TEXT, key TEXT,
    sequence INTEGER, attempt INTEGER, took INTEGER, acknowledged INTEGER,
    at REAL DEFAULT ((julianday('now') - 2440587.5) * 86400.0)
);
CREATE TABLE IF NOT EXISTS effect (topic TEXT, subscription TEXT, id TEXT);
CREATE TABLE IF NOT EXISTS complaint (sentence TEXT);
"""
LONGEST_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message in one request, as the receiver read it; requests are numbered as they came.

    `took` says whether it took effect, `acknowledged` whether the answer was to say so.
    """

    request: int
    topic: str
    subscription: str
    id: str
    key: str | None
    sequence: int
    attempt: int
    took: bool
    acknowledged: bool


_COLUMNS = ", ".join(each.name for each in fields(Arrival))
_MARKS = ", ".join("?" for _ in fields(Arrival))


class Ledger:
    """The receiver's SQLite file, shared by its threads; `lock` makes one request at a time."""

    def __init__(self, path: Path) -> None:
        self.lock = Lock()
        self._connection = sqlite3.connect(
            path, timeout=LONGEST_WAIT_S, check_same_thread=False, isolation_level=None
        )
        # A process that is killed leaves its writes to the kernel: no disk need be waited for.
        self._connection.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; {SCHEMA}"
        )
        self._inbox = Inbox(lambda: sqlite3.connect(path, timeout=LONGEST_WAIT_S))
        self._inbox.create_tables()
        (last,) = self._connection.execute("SELECT max(request) FROM arrival").fetchone()
        self._requests = last or 0

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def next_request(self) -> int:
        """Give a request its number; hold the lock until it is written down."""
        self._requests += 1
        return self._requests

    def write(self, arrivals: Sequence[Arrival], events: Sequence[Event]) -> bool:
        """Write one request down; say whether some of it has taken effect for the first time.

        Where receipts are asked for, an effect and the inbox's record of its event are written
        together, and an event that the inbox knows has none. Hold the lock.
        """
        fresh = False
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for arrival, event in zip(arrivals, events, strict=True):
                self._connection.execute(
                    f"INSERT INTO arrival ({_COLUMNS}) VALUES ({_MARKS})", astuple(arrival)
                )
                topic, name = arrival.topic, arrival.subscription
                if not arrival.took or not AUDITED[name].receipts:
                    continue
                if self._inbox.record(self._connection, event, consumer=f"{topic}/{name}"):
                    fresh = True
                    self._connection.execute(
                        "INSERT INTO effect VALUES (?, ?, ?)", (topic, name, event.id)
                    )
        return fresh

    def complain(self, sentence: str) -> None:
        """Write down what should not have come at all."""
        with self.lock:
            self._connection.execute("INSERT INTO complaint VALUES (?)", (sentence,))

    def arrival_count(self) -> int:
        """Count the messages that came, each time."""
        (count,) = self._connection.execute("SELECT count(*) FROM arrival").fetchone()
        return int(count)

    def times(self, topic: str, since: float) -> list[float]:
        """List when a topic's messages came after a time, as `time.time()` tells it."""
        rows = self._connection.execute(
            "SELECT at FROM arrival WHERE at > ? AND topic = ? ORDER BY at", (since, topic)
        )
        return [float(at) for (at,) in rows]

    def arrivals(self, topic: str, subscription: str) -> list[Arrival]:
        """List what came for a subscription, in the order in which it came."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM arrival WHERE topic = ? AND subscription = ? ORDER BY number",
            (topic, subscription),
        )
        return [
            Arrival(*row[:-2], took=bool(row[-2]), acknowledged=bool(row[-1]))  # type: ignore[misc]
            for row in rows
        ]

    def effects(self, topic: str, subscription: str) -> list[str]:
        """List the ids of the messages that have taken effect, once for each time."""
        rows = self._connection.execute(
            "SELECT id FROM effect WHERE topic = ? AND subscription = ?", (topic, subscription)
        )
        return [str(id) for (id,) in rows]

    def complaints(self) -> list[str]:
        """List what should not have come."""
        return [str(text) for (text,) in self._connection.execute("SELECT * FROM complaint")]
