"""How SQLite goes about the statements whose cost must not grow with the square of the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.store.sqlite.connection import open_writer
from broker.store.sqlite.queries import SQL

BY_KEY = "INDEX exception_key (subscription=? AND key=?"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a new store."""
    with closing(open_writer(tmp_path / "broker.db")) as connection:
        yield connection


@pytest.mark.parametrize(
    ("name", "parameters", "tables"),
    [
        ("hold_behind_first", (1, 0, 9), ["before"]),
        ("free_first_held", (1, 0, 9), ["before"]),
        ("hold_busy", (1, 0, 9, "[]"), ["other"]),
        ("held", (1, 1, "a", 0, 10), ["e", "before"]),
        ("first_of", (1, "a"), ["exception"]),
        ("waiting_among", ("[]", 1), ["exception"]),
        ("free_among", ("[]", 1), ["exception"]),
    ],
)
def test_others_of_a_key_are_found_by_its_index(
    writer: sqlite3.Connection, name: str, parameters: tuple[object, ...], tables: list[str]
) -> None:
    steps = writer.execute("EXPLAIN QUERY PLAN " + SQL[name], parameters).fetchall()
    plan = [step[3] for step in steps]
    for table in tables:
        assert any(step.startswith(f"SEARCH {table} USING {BY_KEY}") for step in plan), plan
