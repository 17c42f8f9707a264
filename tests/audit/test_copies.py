"""Copies are the same if every table is, and what is their own is left out."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from audit.copies import differing, place, same

SCHEMA = "CREATE TABLE message (sequence, body); CREATE TABLE replica (seq);"


def copy(path: Path, *statements: str) -> Path:
    """Make a file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(";".join((SCHEMA, *statements)))
        connection.commit()
    return path


ONE, TWO = "INSERT INTO message VALUES (1, x'00')", "INSERT INTO message VALUES (2, 'b')"


def test_same_rows_in_another_order_are_the_same(tmp_path: Path) -> None:
    one = copy(tmp_path / "1.db", ONE, TWO, "INSERT INTO replica VALUES (7)")
    other = copy(tmp_path / "2.db", TWO, ONE, "INSERT INTO replica VALUES (8)")

    assert differing([one, other]) == []
    assert same([one, other])
    assert [place(one), place(other)] == [7, 8]


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        (TWO, "message"),
        ("UPDATE message SET body = '\\x00'", "message"),
        ("DELETE FROM message", "message"),
        ("CREATE TABLE more (a)", "more"),
    ],
)
def test_what_differs_is_named(tmp_path: Path, statement: str, table: str) -> None:
    copies = [copy(tmp_path / f"{n}.db", ONE) for n in range(2)]

    assert differing([*copies, copy(tmp_path / "other.db", ONE, statement)]) == [table]
