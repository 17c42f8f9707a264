"""The service's database: short transactions on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Any

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

BUSY_S = 30
SCHEMA_LOCK = 7201  # any number that all workers of a service share


class Database:
    """Transactions that commit on leaving the block, and roll back on an exception.

    SQLite has one writer at a time: `write` takes the file's lock at its start, since a lock taken
    later can fail half-way, and threads of this process queue for one connection, which is fair
    and faster than sleeping on the lock. Each commit is on disk before `write` ends.
    """

    def __init__(self, url: str) -> None:
        address = make_url(url)
        if address.get_backend_name() == "sqlite":
            self.engine = _sqlite(address, "BEGIN IMMEDIATE", pool_size=1, max_overflow=0)
            self._reader = _sqlite(address, "BEGIN")
        else:
            self.engine = self._reader = create_engine(address, pool_pre_ping=True)

        self.write: Callable[[], AbstractContextManager[Session]] = sessionmaker(
            self.engine, expire_on_commit=False
        ).begin
        self.read: Callable[[], AbstractContextManager[Session]] = sessionmaker(
            self._reader, expire_on_commit=False
        ).begin

    def create_tables(self, metadata: MetaData) -> None:
        """Create what is missing; workers that start at the same time take turns."""
        with self.engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
            metadata.create_all(connection)

    def check(self) -> None:
        """Reach the database. Raises sqlalchemy.exc.SQLAlchemyError."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every idle connection."""
        self.engine.dispose()
        self._reader.dispose()


def _sqlite(address: URL, begin: str, **pool: int) -> Engine:
    Path(address.database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(address, connect_args={"timeout": BUSY_S}, **pool)

    @event.listens_for(engine, "connect")
    def configure(connection: SqliteConnection, record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing: the next listener does
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin_now(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
