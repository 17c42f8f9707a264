"""Putting in many rows at a time, as one statement."""

import sqlite3
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from broker.store.sqlite.queries import SQL

# Of these a group may have thousands of rows, and one that goes alone takes Python longer than it
# takes SQLite. With the columns that may be long.
_LONG_COLUMNS: Mapping[str, Sequence[int]] = {
    SQL["insert_publish_key"]: (1, 2),  # the source and the id
}
# So many at a time, as long as there are as many: SQLite takes 32,766 values a statement, and a
# statement of a few rows takes it longer than they do one by one.
_SIZES = (256, 64, 16)
# SQLite copies what it is given: so much of the long columns at most, if not of one row.
_LONG_BYTES = 1024 * 1024


class ManyRows:
    """A connection that executes as sqlite3's does, but for what comes in thousands."""

    __slots__ = ("_connection", "execute")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.execute = connection.execute

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]], /) -> None:
        """Execute a statement that changes something once for each row, in their order."""
        if len(rows) >= _SIZES[-1] and sql in _LONG_COLUMNS:
            _insert(self._connection, sql, rows, _SIZES)
        else:
            self._connection.executemany(sql, rows)


def _insert(
    connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]], sizes: Sequence[int]
) -> None:
    """Put rows in, as many at a time as the first of the sizes says, and the rest by the others."""
    sizes = [size for size in sizes if size <= len(rows)]
    if not sizes:
        connection.executemany(sql, rows)
        return
    size, long = sizes[0], _LONG_COLUMNS[sql]
    statement = of_rows(sql, size)
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        if len(some) == size:
            values = tuple(chain.from_iterable(some))
            if _bytes_of(values, len(some[0]), long) <= _LONG_BYTES:
                connection.execute(statement, values)
                continue
        _insert(connection, sql, some, sizes[1:])


def _bytes_of(values: Sequence[Any], columns: int, long: Sequence[int]) -> int:
    """Add up what rows, one after the other, have in the long columns."""
    return sum(sum(map(len, filter(None, values[column::columns]))) for column in long)


@cache
def of_rows(sql: str, count: int) -> str:
    """Make of an INSERT of one row, VALUES last, one of so many."""
    beginning, row = sql.split("VALUES ")
    return f"{beginning}VALUES {', '.join([row] * count)}"
