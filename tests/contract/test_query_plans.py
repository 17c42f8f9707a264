"""How SQLite goes about the statements whose cost must not grow with the square of the rows."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from broker.store.sqlite.connection import open_writer
from broker.store.sqlite.queries import SQL

BY_KEY = "INDEX exception_key (subscription=? AND key=?"
BY_STATE = BY_KEY + " AND state=?"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a new store."""
    with closing(open_writer(tmp_path / "broker.db")) as connection:
        yield connection


@pytest.mark.parametrize(
    ("name", "parameters", "tables", "index"),
    [
        ("hold_behind_first", (1, 0, 9), ["before"], BY_STATE),
        ("free_first_held", (1, 0, 9), ["before", "other"], BY_STATE),
        ("hold_busy", (1, "[]", "[]"), ["other"], BY_STATE),
        ("hold_behind_of", (1, "[]"), ["exception", "before"], BY_STATE),
        ("held", (1, "a", 0, 10), ["e", "exception"], BY_STATE),
        ("first_of", (1, "a"), ["exception"], BY_STATE),
        ("firsts", ("[]", 1), ["e", "exception"], BY_STATE),
        ("waiting_among", ("[]", 1), ["exception"], BY_KEY),
        ("free_among", ("[]", 1), ["exception"], BY_STATE),
    ],
)
def test_others_of_a_key_are_found_by_its_index(
    writer: sqlite3.Connection,
    name: str,
    parameters: tuple[object, ...],
    tables: list[str],
    index: str,
) -> None:
    plan = plan_of(writer, name, parameters)
    for table in tables:
        assert any(step.startswith(f"SEARCH {table} USING {index}") for step in plan), plan


def test_an_id_is_looked_for_in_one_run(writer: sqlite3.Connection) -> None:
    by_first = "SEARCH id_run USING PRIMARY KEY (topic=? AND source=? AND first"

    run, last = plan_of(writer, "find_id_run", (1, "/shop", "a"))[::2]

    assert (run, last) == (f"{by_first}=?)", f"{by_first}<?)")


def plan_of(writer: sqlite3.Connection, name: str, parameters: tuple[object, ...]) -> list[str]:
    steps = writer.execute("EXPLAIN QUERY PLAN " + SQL[name], parameters).fetchall()
    return [step[3].replace("COVERING ", "") for step in steps]


def test_chosen_leases_are_found_by_their_seqs(writer: sqlite3.Connection) -> None:
    _, of_row = plan_of(writer, "leased_among", (1, "[1]"))

    assert of_row == "SEARCH e USING PRIMARY KEY (subscription=? AND seq=?)"


BY_SEQ = {
    "small_block": "PRIMARY KEY (topic=? AND seq",
    "large_block": "INDEX large_block_seq (topic=? AND seq",
}


@pytest.mark.parametrize(
    ("name", "parameters", "tables"),
    [
        ("read_blocks", (1, 5, 9, 14), BY_SEQ),
        ("block_of", (1, 5), BY_SEQ),
        ("block_at", (1, 5), BY_SEQ),
        ("oldest", (1, 5, 9), BY_SEQ),
        ("blocks_among", (1, "[5]"), BY_SEQ),
        ("seqs_with_rows", (1, 5, 9), BY_SEQ),
        ("kept", (1, 0, 9, 9), BY_SEQ),
        ("delete_small_kept", (1, "[5]"), ["small_block"]),
        ("delete_large_kept", (1, "[5]"), ["large_block"]),
        ("delete_small_blocks", (1, 5, 9, "[]"), ["small_block"]),
        ("delete_large_blocks", (1, 5, 9, "[]"), ["large_block"]),
        ("give_up_new", (1, "", 0.0, 1, 5, 9, "null"), BY_SEQ),
    ],
)
def test_log_is_read_from_the_block_with_a_seq(
    writer: sqlite3.Connection, name: str, parameters: tuple[object, ...], tables: Sequence[str]
) -> None:
    plan = plan_of(writer, name, parameters)

    assert not any(re.match("SCAN (m|block|small_block|large_block)", step) for step in plan), plan
    assert not any("TEMP B-TREE FOR ORDER" in step for step in plan), plan
    for table in tables:
        steps = [step for step in plan if step.startswith(f"SEARCH {table}")]
        assert steps
        for step in steps:
            assert step.startswith(f"SEARCH {table} USING {BY_SEQ[table]}"), plan


def test_page_reads_no_row_that_is_far_ahead(writer: sqlite3.Connection) -> None:
    plan = plan_of(writer, "read_blocks", (1, 5, 9, 14))

    for table, by_seq in BY_SEQ.items():
        assert f"SEARCH {table} USING {by_seq}>? AND seq<?)" in plan


def test_what_is_held_of_a_key_is_read_in_one_pass(writer: sqlite3.Connection) -> None:
    def steps_of_reading(count: int) -> int:
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        writer.set_progress_handler(step, 1)
        rows = writer.execute(SQL["held"], (1, "a", 0, count)).fetchall()
        writer.set_progress_handler(None, 1)
        assert len(rows) == count
        return steps

    writer.executemany(
        SQL["insert_small_block"], [(1, seq, "a", b"{}", None, 0.0, None) for seq in range(1, 401)]
    )
    writer.executemany(
        SQL["put_exception"],
        [(1, seq, "a", "held", 0, 0.0, "", 0, 0.0) for seq in range(1, 401)],
    )

    assert steps_of_reading(400) < 5 * steps_of_reading(100)
