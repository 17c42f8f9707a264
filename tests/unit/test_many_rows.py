"""Rows that go in many at a time: they are what they are one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.store.sqlite.connection import open_writer
from broker.store.sqlite.many_rows import ManyRows, of_rows
from broker.store.sqlite.queries import SQL

Row: TypeAlias = tuple[Any, ...]
KEY = SQL["insert_publish_key"]
MEBIBYTE = 1024 * 1024

counts = st.integers(0, 12) | st.sampled_from((63, 64, 65, 255, 256, 257, 340, 600))
moments = st.floats(0, 2e9)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Have a store's file."""
    with closing(open_writer(tmp_path_factory.mktemp("file") / "broker.db")) as connection:
        yield connection


@st.composite
def publish_keys(draw: st.DrawFn) -> list[Row]:
    """Make identities, of which some come again."""
    different = draw(st.integers(1, 700))
    source, fingerprint, at = draw(st.text()), draw(st.binary()), draw(moments)
    return [
        (1, source, f"{seq * 7 % different}", seq, fingerprint, at) for seq in range(draw(counts))
    ]


def rows_after(connection: sqlite3.Connection, rows: Sequence[Row], how: Any) -> Any:
    """Return what a table has after rows were put in, which are not kept."""
    connection.execute("BEGIN")
    try:
        how(connection, rows)
        return connection.execute("SELECT * FROM publish_key ORDER BY 1, 2, 3").fetchall()
    finally:
        connection.rollback()


def one_by_one(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Put rows in as SQLite's module does."""
    for row in rows:
        connection.execute(KEY, row)


def together(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Put rows in as a group does."""
    ManyRows(connection).executemany(KEY, rows)


@settings(deadline=None)
@given(publish_keys())
def test_last_of_an_identity_stays(file: sqlite3.Connection, rows: list[Row]) -> None:
    stored = rows_after(file, rows, together)

    assert stored == rows_after(file, rows, one_by_one)
    assert stored == sorted({row[:3]: row for row in rows}.values())


def test_rows_go_in_many_at_a_time_while_they_are_short(file: sqlite3.Connection) -> None:
    short = [(1, "/s", f"{seq:04}", seq, b"", 0.0) for seq in range(256 + 64 + 3)]
    long = [(2, "/" + "s" * (MEBIBYTE // 8), f"{seq:04}", seq, b"", 0.0) for seq in range(16)]
    executed: list[str] = []
    file.set_trace_callback(executed.append)

    stored = rows_after(file, [*short, *long], together)
    file.set_trace_callback(None)

    inserted = [sql.count("), (") + 1 for sql in executed if "INSERT" in sql]
    assert inserted == [256, 64, *[1] * 19]
    assert stored == [*short, *long]


def test_other_statements_are_executed_as_they_are(file: sqlite3.Connection) -> None:
    rows = [(1, "/s", f"{seq:04}", 1, b"", 0.0) for seq in range(300)]
    file.execute("BEGIN")
    connection = ManyRows(file)

    connection.executemany(KEY, rows)
    connection.executemany(SQL["delete_publish_key"], [(*row[:3], 0.0) for row in rows[:100]])
    connection.executemany(SQL["delete_publish_key"], [])
    connection.execute(SQL["delete_waiting_key"], (1, "/s", "0100"))
    left = [id_ for (id_,) in file.execute("SELECT id FROM publish_key ORDER BY id")]
    file.rollback()

    assert left == [row[2] for row in rows[101:]]


def test_statement_of_many_rows_has_the_values_of_each() -> None:
    assert of_rows(KEY, 1) == KEY
    assert of_rows(KEY, 256).count("?") == 256 * KEY.count("?")
