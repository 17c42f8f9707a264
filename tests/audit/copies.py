"""Whether the brokers of a cluster have the same file, and how far each has come."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

OWN = "replica"  # how far a copy has come, beats included


def differing(copies: Sequence[Path]) -> list[str]:
    """Name the tables that are not the same in all copies."""
    contents = [_digests(copy) for copy in copies]
    tables = sorted({table for each in contents for table in each})
    return [table for table in tables if len({each.get(table) for each in contents}) > 1]


def same(copies: Sequence[Path]) -> bool:
    """Say whether all tables are the same in all copies."""
    return not differing(copies)


def place(copy: Path) -> int:
    """Return the sequence of the last message of the journal that a copy has."""
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as connection:
        (sequence,) = connection.execute(f"SELECT seq FROM {OWN}").fetchone() or (0,)
    return int(sequence)


def _digests(copy: Path) -> dict[str, str]:
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        names = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        return {name: _digest(connection, name) for (name,) in names if name != OWN}


def _digest(connection: sqlite3.Connection, table: str) -> str:
    """Return a hash of a table's rows, in whatever order they are kept."""
    rows = connection.execute(f'SELECT * FROM "{table}"')
    return sha256("\n".join(sorted(map(repr, rows))).encode()).hexdigest()
