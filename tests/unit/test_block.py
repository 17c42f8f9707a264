"""Blocks: what goes in as rows comes out as the messages, in SQL and in Python."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.model import Message, size_of, sizes_of
from broker.store.port import LogEntry
from broker.store.sqlite.block import (
    MOST_BYTES,
    MOST_MESSAGES,
    entries_in,
    insertions,
    message_in,
    messages_in,
    rows_of,
    taken_out,
)
from broker.store.sqlite.connection import PAGE_BYTES, migrate, newest_schema, open_writer
from broker.store.sqlite.queries import SQL

TOPIC = 7

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
contents = st.none() | st.binary(max_size=300) | st.sampled_from((bytes(9_000), bytes(30_000)))
moments = st.sampled_from((0.0, 0.1, 1764543210.123456, 1764543210.1234567, 2e9))


@st.composite
def logs(draw: st.DrawFn) -> list[Message]:
    """Make messages that follow one another, many where the content is of few kinds."""
    first = draw(st.integers(1, 10**12))
    kinds = draw(
        st.lists(
            st.tuples(st.none() | texts, texts.map(str.encode), contents, moments),
            min_size=1,
            max_size=6,
        )
    )
    count = draw(st.integers(1, 12) | st.sampled_from((127, 128, 129, 300)))
    changes = draw(st.integers(1, 50))  # how many are of one kind, one after the other
    return [Message(first + place, *kinds[place // changes % len(kinds)]) for place in range(count)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Have a store's file."""
    with closing(open_writer(tmp_path_factory.mktemp("file") / "broker.db")) as connection:
        yield connection


@settings(deadline=None)
@given(logs())
def test_messages_come_out_as_they_went_in(log: list[Message]) -> None:
    rows = [row[1:] for row in rows_of(TOPIC, log, sizes_of(log))]

    assert list(messages_in(rows, 0)) == log
    for row in rows:
        inside = list(messages_in([row], 0))
        assert [message_in(row, each.seq) for each in inside] == inside


@settings(deadline=None)
@given(logs(), st.data())
def test_what_comes_after_a_seq_is_what_follows_it(log: list[Message], data: st.DataObject) -> None:
    rows = [row[1:] for row in rows_of(TOPIC, log, sizes_of(log))]
    after = data.draw(st.integers(log[0].seq - 1, log[-1].seq))

    assert list(messages_in(rows, after)) == [each for each in log if each.seq > after]


@settings(deadline=None)
@given(logs(), st.data())
def test_entries_are_of_each_message(log: list[Message], data: st.DataObject) -> None:
    rows = [
        (seq, at, len(attributes) + len(content or b""), parts)
        for _, seq, _, attributes, content, at, parts in rows_of(TOPIC, log, sizes_of(log))
    ]
    first = data.draw(st.integers(log[0].seq, log[-1].seq + 1))

    assert list(entries_in(rows, first)) == [
        LogEntry(each.seq, each.stored_at, size_of(each)) for each in log if each.seq >= first
    ]


@settings(deadline=None)
@given(logs())
def test_sql_has_the_messages_one_by_one(file: sqlite3.Connection, log: list[Message]) -> None:
    file.execute("BEGIN")
    try:
        for statement, rows in insertions(rows_of(TOPIC, log, sizes_of(log))):
            file.executemany(SQL[statement], rows)
        found = file.execute("SELECT * FROM each_message ORDER BY seq").fetchall()
    finally:
        file.rollback()

    assert [row[0] for row in found] == [TOPIC] * len(log)
    assert [Message(*row[1:]) for row in found] == log


@pytest.mark.parametrize("size", ["small", "large"])
def test_row_that_is_there_already_fails(file: sqlite3.Connection, size: str) -> None:
    log = [Message(seq, None, b"{}", b"1", 0.0) for seq in range(1, 400)]
    rows = list(rows_of(TOPIC, log, sizes_of(log)))
    file.execute("BEGIN")
    try:
        with pytest.raises(sqlite3.IntegrityError):
            file.executemany(SQL[f"insert_{size}_block"], [*rows, rows[-1]])
    finally:
        file.rollback()


@given(
    st.none() | texts | st.text(st.characters(codec="utf-8"), min_size=100, max_size=600),
    st.binary(max_size=1_000),
    st.none() | st.binary(max_size=1_000),
    st.integers(1, 200),
)
@example(None, bytes(1_900), None, 1)
@example(None, bytes(1_000), bytes(901), 1)
@example("\N{ROCKET}" * 128, bytes(1_700), None, 1)
def test_small_rows_lie_within_a_page(
    key: str | None, attributes: bytes, data: bytes | None, count: int
) -> None:
    log = [Message(seq, key, attributes, data, 0.0) for seq in range(1, count + 1)]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        migrate(connection, newest_schema())
        put_in = insertions(rows_of(TOPIC, log, sizes_of(log)))
        for statement, rows in put_in:
            connection.executemany(SQL[statement], rows)
        kinds = connection.execute(
            "SELECT count(*) FROM dbstat WHERE name = 'small_block' AND pagetype = 'overflow'"
        ).fetchone()

    assert kinds == (0,)
    assert sum(len(rows) for _, rows in put_in) == len(list(rows_of(TOPIC, log, sizes_of(log))))


@settings(deadline=None)
@given(logs())
def test_no_row_is_larger_than_it_may_be(log: list[Message]) -> None:
    by_seq = {each.seq: each for each in log}
    for row in rows_of(TOPIC, log, sizes_of(log)):
        inside = list(messages_in([row[1:]], 0))
        together = sum(map(size_of, inside))
        assert len(inside) == 1 or (together <= MOST_BYTES and len(inside) <= MOST_MESSAGES)
        assert (row[6] is None) == (len(inside) == 1)
        following = by_seq.get(inside[-1].seq + 1)
        if following is not None:
            # About as many as there is room for.
            larger = together + size_of(following) + 16 * (len(inside) + 1)
            assert len(inside) == MOST_MESSAGES or larger > MOST_BYTES


@settings(deadline=None)
@given(logs(), st.data())
def test_only_blocks_that_end_before_have_messages_taken_out(
    log: list[Message], data: st.DataObject
) -> None:
    rows = list(rows_of(TOPIC, log, sizes_of(log)))
    end = data.draw(st.integers(log[0].seq, log[-1].seq + 1))
    seqs = data.draw(st.sets(st.sampled_from([each.seq for each in log])))

    out = list(taken_out(TOPIC, [row[1:] for row in rows], seqs, end))

    assert [message for row in out for message in messages_in([row[1:]], 0)] == [
        message
        for row in rows
        for message in messages_in([row[1:]], 0)
        if message.seq in seqs and list(messages_in([row[1:]], 0))[-1].seq < end
    ]
    assert all(row[6] is None for row in out)
