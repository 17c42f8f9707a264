"""Trimming logs whose rows have many messages: what is left, and who looks at it when."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from broker.model import ExceptionRow, FailedAttempt, NewMessage
from broker.store.port import Changes
from broker.store.sqlite import retention
from broker.store.sqlite.block import MOST_BYTES, MOST_MESSAGES
from broker.store.sqlite.shard import SqliteShard
from unit.sqlite_stores import SOURCE, TOPIC, Stores

DEAD = 3

pytestmark = pytest.mark.anyio


def message(id_: int, data: bytes = b"1") -> NewMessage:
    attributes = b'{"id":"%d","source":"/s","type":"t"}' % id_
    return NewMessage(f"{id_}", SOURCE, None, attributes, data, None)


async def with_a_dead_letter(
    stores: Stores, groups: Sequence[range], data: bytes = b"1"
) -> SqliteShard:
    """Append messages, a block for each range, and settle all of the first but one that is dead."""
    await stores.store.create_subscription(TOPIC, "s", {}, 1)
    shard = await anext(stores.store.claim())
    for group in groups:
        await stores.store.append(TOPIC, [message(each, data) for each in group])
    taken = await shard.fetch(10)
    done = [each.seq for each in taken if each.seq != DEAD]
    failed = [FailedAttempt(DEAD, 1, 1.0, 500, "e", 1, "a")]
    put = [ExceptionRow(DEAD, None, "dead", 1, 0.0, "r")]
    await shard.commit(Changes(put=put, done=done, failed=failed), soon=True)
    return shard


def in_file(stores: Stores, query: str) -> list[Any]:
    file = stores.store._path
    with closing(sqlite3.connect(file)) as connection:
        return [value for (value,) in connection.execute(query)]


async def purge(stores: Stores) -> None:
    for _ in range(6):
        await stores.store._purge.turn()


@pytest.mark.parametrize("table", ["small_block", "large_block"])
async def test_dead_letter_is_taken_out_of_its_block_and_goes_alone(
    stores: Stores, table: str
) -> None:
    data = b"1" if table == "small_block" else bytes(2_000)
    shard = await with_a_dead_letter(stores, [range(1, 11)], data)
    assert await stores.store.trim(TOPIC, 6) == 6
    assert in_file(stores, "SELECT seq FROM block") == [1]

    assert await stores.store.trim(TOPIC, 11) == 11

    assert in_file(stores, "SELECT seq FROM block") == [DEAD]
    assert in_file(stores, f"SELECT seq FROM {table}") == [DEAD]
    found = await shard.row(DEAD)
    assert found is not None
    assert found.message.data == data
    assert found.message.attributes == message(DEAD).attributes
    await purge(stores)
    assert in_file(stores, "SELECT seq FROM block") == [DEAD]
    await shard.commit(Changes(drop=[DEAD]), soon=True)
    await purge(stores)
    assert in_file(stores, "SELECT seq FROM block") == []
    assert in_file(stores, "SELECT seq FROM attempt") == []


async def test_page_goes_on_where_it_begins_before_the_log(stores: Stores) -> None:
    await with_a_dead_letter(stores, [range(each, each + 1) for each in range(1, 41)])
    await stores.store.trim(TOPIC, 11)
    topic = stores.store._topics[TOPIC]

    # As for a reader who knew nothing of the trim when it asked.
    scan = stores.store._reading._scan
    found, following = scan(topic.id, 4, 8, None, None, 1e9, None)

    assert [each.seq for each in found] == list(range(11, 19))
    assert following == 18


async def test_what_is_taken_out_is_looked_at_once_it_is_there(stores: Stores) -> None:
    shard = await with_a_dead_letter(stores, [range(1, 11)])
    store = stores.store
    store._group.writing.acquire()  # as a checkpoint holds it
    trimming = asyncio.create_task(store.trim(TOPIC, 11))
    for _ in range(20):
        await asyncio.sleep(0.001)
        await store._purge._purge_kept()
    store._group.writing.release()
    await trimming

    await shard.commit(Changes(drop=[DEAD]), soon=True)
    await purge(stores)

    assert in_file(stores, "SELECT seq FROM block") == []


async def test_attempts_go_with_the_block_of_what_was_dead_in_it(stores: Stores) -> None:
    shard = await with_a_dead_letter(stores, [range(1, 11)])
    await stores.store.trim(TOPIC, 6)
    await purge(stores)
    await shard.commit(Changes(drop=[DEAD]), soon=True)
    await purge(stores)

    await stores.store.trim(TOPIC, 11)
    await purge(stores)

    assert in_file(stores, "SELECT seq FROM attempt") == []


def test_batch_of_a_removal_has_room_for_any_block() -> None:
    assert retention.BATCH_ROWS >= MOST_MESSAGES
    assert retention.BATCH_BYTES >= MOST_BYTES


async def test_large_rows_that_lie_among_the_small_are_read_and_go(stores: Stores) -> None:
    shard = await with_a_dead_letter(stores, [range(1, 11)], bytes(2_000))
    await stores.store.close()
    with closing(sqlite3.connect(stores.store._path)) as connection:  # as before schema 7
        connection.execute("INSERT INTO small_block SELECT * FROM large_block")
        connection.execute("DELETE FROM large_block")
        connection.commit()
    store = await stores.open()
    await store.append(TOPIC, [message(each, bytes(2_000)) for each in range(11, 21)])
    await store.append(TOPIC, [message(21)])

    found, _ = await store.read(TOPIC, 4, 100)
    assert [each.seq for each in found] == list(range(5, 22))
    assert {len(each.data or b"") for each in found[:-1]} == {2_000}
    assert await store.trim(TOPIC, 11) == 11
    assert in_file(stores, "SELECT seq FROM small_block ORDER BY seq") == [21]
    assert in_file(stores, "SELECT seq FROM large_block ORDER BY seq") == [DEAD, 11]
    shard = await anext(store.claim())
    await shard.commit(Changes(drop=[DEAD]), soon=True)
    await purge(stores)
    assert in_file(stores, "SELECT seq FROM block ORDER BY seq") == [11, 21]
