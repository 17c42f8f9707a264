"""The inbox: each event takes effect once, however often it is delivered."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from broker_client import statements
from broker_client.database import Database, Source, Target, join
from broker_client.event import Event


class Inbox:
    """A table of the events whose effects are in the same database.

    `record` and the effects belong in one transaction: then both are there or neither is. An event
    is known by its `source` and `id`, for each `consumer` apart, so that two handlers of the same
    events can share a database.

    `database` is a SQLAlchemy Engine, or a function that returns a new DB-API connection, on
    SQLite or PostgreSQL. `clock` gives epoch seconds.
    """

    def __init__(
        self,
        database: Source,
        *,
        table: str = "inbox",
        consumer: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = Database(database)
        self._sql = statements.load("inbox", table)
        self._consumer = consumer
        self._clock = clock

    def create_tables(self) -> None:
        """Create the table where it is missing."""
        with self.database.writing() as transaction:
            transaction.execute_script(self._sql[f"create_{transaction.dialect}"])

    def record(self, target: Target, event: Event, *, consumer: str | None = None) -> bool:
        """Note an event in the caller's transaction; return False if it was noted before.

        `target` is the SQLAlchemy Session or Connection, or the DB-API connection, on which the
        effects are written. While another transaction is recording the same event, this waits for
        its end. Make it the transaction's first statement: then SQLite can wait for the write lock.
        """
        changed = join(target).execute(
            self._sql["record"],
            consumer=self._consumer if consumer is None else consumer,
            source=event.source,
            id=event.id,
            now=self._clock(),
        )
        return changed == 1

    def knows(self, event: Event, *, consumer: str | None = None) -> bool:
        """Say whether an event was recorded and committed, seen from a transaction of its own."""
        with self.database.link() as link, link.reading() as transaction:
            found = transaction.fetch(
                self._sql["find"],
                consumer=self._consumer if consumer is None else consumer,
                source=event.source,
                id=event.id,
            )
        return bool(found)

    def forget(self, source: str, id: str, *, consumer: str | None = None) -> bool:
        """Let an event take effect again when it is replayed; return whether it was known.

        Forgets it for every consumer, unless one is named.
        """
        with self.database.writing() as transaction:
            return (
                transaction.execute(self._sql["forget"], source=source, id=id, consumer=consumer)
                > 0
            )

    def purge(self, older_than_s: float) -> int:
        """Forget the events recorded longer ago than this; return how many.

        An event that is delivered again after it was forgotten takes effect again: keep them for
        longer than the broker may deliver them. Unless its settings say otherwise it owes a message
        for a week, and a dead letter can be replayed for another 30 days.
        """
        with self.database.writing() as transaction:
            return transaction.execute(self._sql["purge"], before=self._clock() - older_than_s)

    def transaction(self) -> AbstractContextManager[Any]:
        """Open a transaction of this database; commit on a clean exit, roll back on an exception.

        Gives a SQLAlchemy Connection, or a DB-API connection, as the inbox was made with.
        """
        return self.database.lending()
