"""The one place that knows SQLAlchemy's Engine, Connection and Session from DB-API connections.

Everything else writes SQL with `:name` parameters and runs it on a `Transaction`.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from broker_client.errors import UnsupportedDatabase

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, scoped_session

Dialect = Literal["sqlite", "postgresql"]
Row = tuple[Any, ...]

_DRIVERS: dict[str, tuple[Dialect, str]] = {
    "sqlite3": ("sqlite", "qmark"),
    "psycopg": ("postgresql", "pyformat"),
    "psycopg2": ("postgresql", "pyformat"),
}
_PARAMETER = re.compile(r":([a-z_]+)")
_BUSY_TIMEOUT_MS = 5000


class DbApiConnection(Protocol):
    """A DB-API 2.0 connection of sqlite3, psycopg or psycopg2."""

    def cursor(self) -> Any:
        """Return a new cursor."""

    def commit(self) -> Any:
        """Commit the transaction."""

    def rollback(self) -> Any:
        """Roll the transaction back."""

    def close(self) -> Any:
        """Close the connection."""


Source: TypeAlias = "Engine | Callable[[], DbApiConnection]"
"""A database: an Engine, or a function that returns a new DB-API connection."""

Target: TypeAlias = "Session | scoped_session[Session] | Connection | DbApiConnection"
"""A transaction of the caller's: what it runs its own statements on."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """Runs statements in a transaction that somebody else opened and will end."""

    dialect: Dialect
    paramstyle: str
    run: Callable[[str, Any], Any]

    def execute(self, sql: str, /, **values: Any) -> int:
        """Run one statement; return how many rows it changed."""
        return int(self._cursor(sql, values).rowcount)

    def fetch(self, sql: str, /, **values: Any) -> list[Row]:
        """Run one query; return its rows."""
        return [_as_tuple(row) for row in self._cursor(sql, values).fetchall()]

    def execute_script(self, sql: str) -> None:
        """Run several statements that take no parameters."""
        for statement in sql.split(";"):
            self._cursor(statement, {})

    def _cursor(self, sql: str, values: dict[str, Any]) -> Any:
        text, names = _placeholders(sql, self.paramstyle)
        if self.paramstyle in ("pyformat", "named"):
            return self.run(text, values)
        return self.run(text, tuple(values[name] for name in names))


class Link(Protocol):
    """A way to open transactions, for one thread.

    Each commits on a clean exit and rolls back on an exception.
    """

    def reading(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that only reads."""

    def writing(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that writes."""

    def lending(self) -> AbstractContextManager[Any]:
        """Open a transaction and hand out its SQLAlchemy Connection or DB-API connection."""


class Database:
    """Opens the library's own transactions.

    `source` is a SQLAlchemy Engine, or a function that returns a new DB-API connection, on SQLite
    or PostgreSQL. Raises UnsupportedDatabase for anything else.
    """

    def __init__(self, source: Source) -> None:
        self.link = _links(source)
        """Holds what transactions need open, for a series of them in one thread."""

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Open one transaction that writes."""
        with self.link() as link, link.writing() as transaction:
            yield transaction

    @contextmanager
    def lending(self) -> Iterator[Any]:
        """Open one transaction and hand out its Connection or DB-API connection."""
        with self.link() as link, link.lending() as connection:
            yield connection


def join(target: Target) -> Transaction:
    """Take part in the caller's transaction. Raises UnsupportedDatabase."""
    given: Any = target
    if inspect.iscoroutinefunction(getattr(given, "commit", None)):
        raise UnsupportedDatabase("an asynchronous session or connection: use its run_sync")
    if hasattr(given, "exec_driver_sql"):
        return _on_connection(given)
    if hasattr(given, "get_bind"):
        return _on_connection(given.connection())
    if hasattr(given, "cursor"):
        return _on_dbapi(given)
    raise UnsupportedDatabase(
        f"neither a SQLAlchemy Session or Connection nor a DB-API connection: {given!r}"
    )


def after_commit(target: Target, ring: Callable[..., object]) -> None:
    """Have `ring` called after each commit of a SQLAlchemy Session; others do not tell."""
    if not hasattr(target, "get_bind"):
        return
    from sqlalchemy import event  # only whoever brings a Session needs SQLAlchemy installed

    session = target.registry() if hasattr(target, "registry") else target
    event.listen(session, "after_commit", ring)  # the same one a second time changes nothing


def _links(source: Source) -> Callable[[], AbstractContextManager[Link]]:
    given: Any = source
    if hasattr(given, "dialect") and hasattr(given, "pool"):
        _known_dialect(given.dialect.name)
        return lambda: nullcontext(_EngineLink(given))
    if callable(given) and not hasattr(given, "cursor"):
        return lambda: _open_link(given)
    raise UnsupportedDatabase(
        "a database is a SQLAlchemy Engine, or a function that returns a new DB-API connection, "
        f"not {given!r}"
    )


@contextmanager
def _open_link(connect: Callable[[], DbApiConnection]) -> Iterator[Link]:
    with closing(connect()) as connection:
        yield _DbApiLink(connection)


@dataclass(frozen=True, slots=True)
class _EngineLink:
    engine: "Engine"

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with self.engine.connect() as connection:
            yield _on_connection(connection)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        with self.engine.begin() as connection:
            transaction = _on_connection(connection)
            if _begins_late(connection.connection.dbapi_connection):
                transaction.execute("BEGIN IMMEDIATE")
            yield transaction

    def lending(self) -> AbstractContextManager[Any]:
        return self.engine.begin()


@dataclass(frozen=True, slots=True)
class _DbApiLink:
    connection: DbApiConnection

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        yield _on_dbapi(self.connection)
        # psycopg began a transaction; an idle one would hold back the server's vacuum.
        self.connection.rollback()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        transaction = _on_dbapi(self.connection)
        if transaction.dialect == "sqlite":
            _wait_for_writers(transaction)
        autocommit = getattr(self.connection, "autocommit", None) is True
        if _begins_late(self.connection):
            transaction.execute("BEGIN IMMEDIATE")
        elif autocommit:
            transaction.execute("BEGIN")

        try:
            yield transaction
        except BaseException:
            transaction.execute("ROLLBACK") if autocommit else self.connection.rollback()
            raise
        transaction.execute("COMMIT") if autocommit else self.connection.commit()

    @contextmanager
    def lending(self) -> Iterator[DbApiConnection]:
        with self.writing():
            yield self.connection


def _begins_late(connection: Any) -> bool:
    """Say whether a SQLite connection has no transaction yet, and would begin with a read lock.

    Two transactions that first read and then write fail at once, busy timeout or not; one that
    begins with the write lock waits for it.
    """
    return getattr(connection, "in_transaction", None) is False


def _wait_for_writers(transaction: Transaction) -> None:
    [(timeout_ms,)] = transaction.fetch("PRAGMA busy_timeout")
    if timeout_ms < _BUSY_TIMEOUT_MS:
        transaction.fetch(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")


def _on_connection(connection: "Connection") -> Transaction:
    dialect = connection.dialect
    return Transaction(_known_dialect(dialect.name), dialect.paramstyle, connection.exec_driver_sql)


def _on_dbapi(connection: Any) -> Transaction:
    raw = getattr(connection, "dbapi_connection", connection)
    dialect, paramstyle = _driver(raw)

    def run(sql: str, values: Any) -> Any:
        cursor = raw.cursor()
        cursor.execute(sql, values)
        return cursor

    return Transaction(dialect, paramstyle, run)


def _driver(connection: object) -> tuple[Dialect, str]:
    for kind in type(connection).__mro__:
        known = _DRIVERS.get(kind.__module__.partition(".")[0])
        if known is not None:
            return known
    raise UnsupportedDatabase(f"a connection of sqlite3, psycopg or psycopg2, not {connection!r}")


def _known_dialect(name: str) -> Dialect:
    if name == "sqlite":
        return "sqlite"
    if name == "postgresql":
        return "postgresql"
    raise UnsupportedDatabase(f"SQLite and PostgreSQL are supported, not {name}")


def _as_tuple(row: Any) -> Row:
    return tuple(row.values() if isinstance(row, Mapping) else row)


@lru_cache(maxsize=256)
def _placeholders(sql: str, paramstyle: str) -> tuple[str, tuple[str, ...]]:
    """Write `:name` parameters the driver's way; also return the names in their order."""
    mark = {"qmark": "?", "format": "%s", "pyformat": r"%(\1)s", "named": r":\1"}[paramstyle]
    return _PARAMETER.sub(mark, sql), tuple(_PARAMETER.findall(sql))
