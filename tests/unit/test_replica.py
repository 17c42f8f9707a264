"""A file that follows the journal, record by record."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.store.jetstream.records import Claimed, Record, parts_of
from broker.store.jetstream.replica import STATEMENTS, Replica, numbered
from broker.store.port import Unusable
from broker.store.sqlite.connection import newest_schema
from broker.store.sqlite.queries import SQL

MIB = 1024 * 1024


def claimed() -> Claimed:
    """Claim a journal that has nothing yet."""
    return Claimed("owner", "http://owner", newest_schema(), "log", 1.0, STATEMENTS)


def put(key: str, body: str) -> Record:
    """Write one document as a group of its own."""
    (part,) = parts_of(numbered([(SQL["put_document"], [(key, body, 1)])]))
    return part


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    """A file that has met a claim and nothing else."""
    replica = Replica(tmp_path / "replica.db")
    replica.open("journal")
    replica.apply(1, claimed())
    yield replica
    replica.close()


def test_file_that_follows_for_long_keeps_no_long_log(replica: Replica, tmp_path: Path) -> None:
    for seq in range(2, 1000):
        replica.apply(seq, put("same", "x" * 100_000))

    assert (tmp_path / "replica.db-wal").stat().st_size < 32 * MIB


def test_file_has_what_the_journal_says(replica: Replica, tmp_path: Path) -> None:
    replica.apply(2, put("one", "1"))
    replica.apply(3, put("one", "2"))

    with closing(sqlite3.connect(tmp_path / "replica.db")) as connection:
        rows = connection.execute("SELECT key, body FROM document").fetchall()
        place = connection.execute("SELECT seq FROM replica").fetchone()
    assert (rows, place) == ([("one", "2")], (3,))


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH DATABASE ? AS other",
        "PRAGMA writable_schema = 1",
        "DROP TABLE document",
        "CREATE TABLE other (a)",
        "CREATE TRIGGER t AFTER INSERT ON document BEGIN DELETE FROM document; END",
    ],
)
def test_file_changes_rows_for_the_journal_and_nothing_else(
    replica: Replica, tmp_path: Path, sql: str
) -> None:
    foreign = Claimed("other", "http://other", newest_schema(), "log", 1.0, [sql])
    replica.apply(2, foreign)
    (part,) = parts_of([(0, [[str(tmp_path / "other.db")] * sql.count("?")])])

    with pytest.raises(Unusable, match="no broker wrote"):
        replica.apply(3, part)

    assert not (tmp_path / "other.db").exists()
