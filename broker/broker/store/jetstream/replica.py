"""A file that follows the journal."""

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broker.store.jetstream.records import (
    Assembly,
    Claimed,
    Executed,
    Part,
    Record,
    decode,
    encode,
)
from broker.store.port import Unusable
from broker.store.sqlite.connection import migrate, newest_schema, open_writer, schema_of
from broker.store.sqlite.journal import Execution
from broker.store.sqlite.queries import SQL

# Beside the store's own tables, and no part of its schema: which journal the file follows, how far
# it has come, and the last claim that it has met.
_PLACE = """
CREATE TABLE IF NOT EXISTS replica (
    journal TEXT NOT NULL, seq INTEGER NOT NULL, claim BLOB) STRICT
"""

# What statements of the journal may do: read and change rows. No file beside this one is theirs,
# and neither are its schema and settings.
_ROWS_ONLY = frozenset(
    (
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    )
)


class OtherJournal(Exception):
    """The file cannot be brought to where the journal is: it has to be made anew."""


class Replica:
    """Executes what the owner executed.

    `seq` is how far it has come in the journal, including records of which the file knows nothing
    because they change nothing; `claim` is the last claim up to there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._assembly = Assembly()
        self._connection: sqlite3.Connection | None = None
        self._bounded = False  # while statements are prepared that are not this broker's own
        self.seq = 0
        self.claim: Claimed | None = None

    @staticmethod
    def adopt(path: Path, journal: str, seq: int) -> None:
        """Make a store's file one that has followed a journal up to a sequence."""
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(_PLACE)
            connection.execute("DELETE FROM replica")
            connection.execute("INSERT INTO replica VALUES (?, ?, NULL)", (journal, seq))

    def open(self, journal: str) -> None:
        """Go on with the file, or begin with none; one that follows another journal is removed."""
        with contextlib.ExitStack() as undo:
            connection = undo.enter_context(
                contextlib.closing(open_writer(self._path, replica=True))
            )
            connection.execute(_PLACE)
            place = connection.execute("SELECT journal, seq, claim FROM replica").fetchone()
            if place is not None and place[0] == journal:
                self.seq = place[1]
                self.claim = None if place[2] is None else _claim_in(place[2])
            elif place is None and schema_of(connection) == 0:
                connection.execute("INSERT INTO replica VALUES (?, 0, NULL)", (journal,))
            elif place is None:
                raise Unusable(
                    f"{self._path} is a store of its own, and not a copy of one on JetStream. "
                    "Set BROKER_REPLICA to a folder that is not used otherwise."
                )
            else:
                raise OtherJournal(str(self._path))
            # For good: to set it anew for each group would have every statement prepared again.
            connection.set_authorizer(self._authorize)
            self._connection = connection
            undo.pop_all()

    def _authorize(self, action: int, *_: str | None) -> int:
        allowed = not self._bounded or action in _ROWS_ONLY
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    def close(self) -> None:
        """Leave the file to its owner."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def remove(self) -> None:
        """Remove the file, to begin anew."""
        self.close()
        self._assembly.forget()
        self.claim, self.seq = None, 0
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def apply(self, seq: int, record: Record) -> None:
        """Do what a record says. It has to be the one after `seq`."""
        if seq != self.seq + 1:
            raise OtherJournal(f"{self._path} is at {self.seq}, and the journal goes on at {seq}")
        if isinstance(record, Claimed):
            self._assembly.forget()
            self._follow(seq, record)
        elif isinstance(record, Part) and (group := self._assembly.add(record)) is not None:
            self._execute(seq, group)
        self.seq = seq

    def _follow(self, seq: int, claim: Claimed) -> None:
        if claim.schema > newest_schema():
            raise Unusable(
                f"The journal is owned by a newer broker (schema {claim.schema}, this one knows "
                f"{newest_schema()}). Run that version."
            )
        connection = self._opened()
        migrate(connection, claim.schema)
        with _transaction(connection):
            connection.execute(SQL["delete_log"])
            connection.execute(SQL["insert_log"], (claim.log_id, claim.created_at))
            connection.execute("UPDATE replica SET seq = ?, claim = ?", (seq, encode(claim)))
        self.claim = claim

    def _execute(self, seq: int, group: Sequence[Executed]) -> None:
        if self.claim is None:
            raise OtherJournal(f"{self._path} met a group before a claim")
        connection, statements = self._opened(), self.claim.statements
        with _transaction(connection):
            for number, rows in group:
                self._do(connection, statements[number], rows)
            place(connection, seq)

    def _do(self, connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._bounded = True
        try:
            connection.executemany(sql, rows)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_AUTH:
                raise
            raise Unusable(f"The journal has what no broker wrote: {sql!r}.") from None
        finally:
            self._bounded = False

    def claim_of(self, owner: str, url: str, rpc: str = "") -> Claimed:
        """Return what claims the journal for this broker, with this file."""
        connection = self._opened()
        schema = max(schema_of(connection), newest_schema())
        log = None
        if schema_of(connection):
            log = connection.execute(SQL["log_row"]).fetchone()
        log_id, created_at = (secrets.token_hex(4), time.time()) if log is None else log
        return Claimed(owner, url, schema, log_id, created_at, STATEMENTS, rpc)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("the replica is not open")
        return self._connection


STATEMENTS: Sequence[str] = tuple(SQL.values())
_NUMBERS = {sql: number for number, sql in enumerate(STATEMENTS)}


def numbered(executed: Sequence[Execution]) -> list[Executed]:
    """Name statements by their place in STATEMENTS."""
    return [(_NUMBERS[sql], rows) for sql, rows in executed]


def place(connection: sqlite3.Connection, seq: int) -> None:
    """Note in the open transaction how far in the journal it brings the file."""
    connection.execute("UPDATE replica SET seq = ?", (seq,))


def place_in(path: Path) -> int:
    """Return how far in the journal a file is."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        row: tuple[Any, ...] = connection.execute("SELECT seq FROM replica").fetchone()
        return int(row[0])


def _claim_in(blob: bytes) -> Claimed | None:
    record = decode(blob)
    return record if isinstance(record, Claimed) else None


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Any:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
