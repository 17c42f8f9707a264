"""Drivers and their modes: whatever an application configured, transactions stay transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, event

from broker_client import UnsupportedDatabase
from broker_client.database import Database, Transaction, join
from sdk.databases import Site
from sdk.postgres_server import PostgresServer

Connect = Callable[[], Any]


class Failed(Exception):
    """What ends a transaction badly in these tests."""


class OwnConnection(sqlite3.Connection):
    """A connection class of the application's own."""


def _rows_as_mappings(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    return connection


SQLITE: dict[str, Callable[[Path], Any]] = {
    "plain": sqlite3.connect,
    "autocommit": lambda path: sqlite3.connect(path, isolation_level=None),
    "own class": lambda path: sqlite3.connect(path, factory=OwnConnection),
    "rows as mappings": _rows_as_mappings,
    "impatient": lambda path: sqlite3.connect(path, timeout=0),
}
POSTGRESQL: dict[str, Callable[[str], Any]] = {
    "plain": psycopg.connect,
    "autocommit": lambda dsn: psycopg.connect(dsn, autocommit=True),
    "rows as mappings": lambda dsn: psycopg.connect(dsn, row_factory=dict_row),
}


@pytest.fixture(params=[*(f"sqlite {n}" for n in SQLITE), *(f"postgresql {n}" for n in POSTGRESQL)])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    """Each driver in each of its modes."""
    dialect, _, mode = request.param.partition(" ")
    if dialect == "sqlite":
        return lambda: SQLITE[mode](tmp_path / "application.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    dsn = server.dsn(server.new_schema())
    return lambda: POSTGRESQL[mode](dsn)


def write(transaction: Transaction, *values: int) -> None:
    for value in values:
        transaction.execute("INSERT INTO t (n) VALUES (:n)", n=value)


def write_and_fail(database: Database) -> None:
    with database.writing() as transaction:
        write(transaction, 1)
        raise Failed


def read(database: Database) -> list[Any]:
    with database.link() as link, link.reading() as transaction:
        return [n for (n,) in transaction.fetch("SELECT n FROM t ORDER BY n")]


@pytest.fixture
def database(connect: Connect) -> Database:
    made = Database(connect)
    with made.writing() as transaction:
        transaction.execute_script("CREATE TABLE t (n INTEGER); CREATE INDEX i ON t (n)")
    return made


def test_a_transaction_commits_at_its_end(database: Database) -> None:
    with database.writing() as transaction:
        write(transaction, 1, 2)
        assert read(database) == []

    assert read(database) == [1, 2]


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(Failed):
        write_and_fail(database)

    assert read(database) == []


def test_a_lent_connection_commits_at_the_end(database: Database) -> None:
    with database.lending() as connection:
        connection.cursor().execute("INSERT INTO t VALUES (1)")

    assert read(database) == [1]


def test_a_lent_connection_rolls_back_on_an_exception(database: Database) -> None:
    def write_and_fail() -> None:
        with database.lending() as connection:
            connection.cursor().execute("INSERT INTO t VALUES (2)")
            raise Failed

    with pytest.raises(Failed):
        write_and_fail()

    assert read(database) == []


def test_a_link_serves_many_transactions(database: Database) -> None:
    with database.link() as link:
        for n in range(3):
            with link.writing() as transaction:
                write(transaction, n)
            with link.reading() as transaction:
                assert len(transaction.fetch("SELECT n FROM t")) == n + 1


def test_changed_rows_are_counted(database: Database) -> None:
    with database.writing() as transaction:
        write(transaction, 1, 2, 3)
        assert transaction.execute("DELETE FROM t WHERE n > :n", n=1) == 2


def test_reading_leaves_no_transaction_open(database: Database) -> None:
    with database.link() as link:
        with link.reading() as transaction:
            transaction.fetch("SELECT n FROM t")
        with database.writing() as other:
            write(other, 1)
        with link.reading() as transaction:
            assert transaction.fetch("SELECT n FROM t") == [(1,)]


def add_in_turns(database: Database) -> None:
    """Have three threads read and then write, 20 times each."""

    def add_many() -> None:
        for _ in range(20):
            with database.writing() as transaction:
                [(count,)] = transaction.fetch("SELECT count(*) FROM t")
                write(transaction, count)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(add_many) for _ in range(3)]:
            done.result(60)


def test_writers_wait_for_each_other(database: Database) -> None:
    add_in_turns(database)

    assert len(read(database)) == 60


def test_writers_on_an_engine_wait_for_each_other(site: Site) -> None:
    site.write("CREATE TABLE t (n INTEGER)")
    add_in_turns(Database(site.engine))

    # Each read what the one before it had written: SQLite lets one in at a time.
    numbers = [n for (n,) in site.rows("SELECT n FROM t ORDER BY n")]
    assert len(numbers) == 60
    assert site.engine.dialect.name != "sqlite" or numbers == list(range(60))


def test_a_connection_that_has_read_is_not_idle_in_a_transaction(postgresql_site: Site) -> None:
    with Database(postgresql_site.connect).link() as link:
        with link.reading() as transaction:
            [(pid,)] = transaction.fetch("SELECT pg_backend_pid()")
        states = f"SELECT state FROM pg_stat_activity WHERE pid = {pid}"
        assert postgresql_site.rows(states) == [("idle",)]


def test_an_engine_that_begins_by_itself_is_joined(tmp_path: Path) -> None:
    # SQLAlchemy's own recipe for SQLite: emit BEGIN when a transaction begins.
    engine = create_engine(f"sqlite:///{tmp_path / 'application.db'}")
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    database = Database(engine)
    with database.writing() as transaction:
        transaction.execute_script("CREATE TABLE t (n INTEGER)")
    with pytest.raises(Failed):
        write_and_fail(database)

    assert read(database) == []
    engine.dispose()


def test_a_reader_does_not_hold_up_a_writer(sqlite_site: Site) -> None:
    for source in (sqlite_site.engine, sqlite_site.connect):
        with (
            Database(source).link() as link,
            link.reading() as transaction,
            closing(sqlite_site.connect()) as writer,
        ):
            transaction.fetch("SELECT 1")
            writer.execute("PRAGMA busy_timeout = 0")
            writer.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
            writer.commit()


class Asynchronous:
    """The shape of an asynchronous session."""

    async def commit(self) -> None: ...


def test_an_asynchronous_session_is_refused_with_advice() -> None:
    with pytest.raises(UnsupportedDatabase, match="run_sync"):
        join(Asynchronous())  # type: ignore[arg-type]


class UnknownConnection:
    """The shape of a connection of a driver the library does not know."""

    def cursor(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(UnsupportedDatabase, match="sqlite3, psycopg"):
        join(UnknownConnection())


def test_an_engine_of_another_database_is_refused() -> None:
    engine = create_engine("mssql+pyodbc://@dsn", module=sqlite3)

    with pytest.raises(UnsupportedDatabase, match="mssql"):
        Database(engine)
