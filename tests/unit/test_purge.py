"""What is removed although nobody asked for it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest

from broker.model import ExceptionRow, FailedAttempt, NewMessage
from broker.store.port import Changes, Shard
from broker.store.sqlite import SqliteStore, retention

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a store is that looks often, and keeps few attempts."""
    monkeypatch.setattr(retention, "IDLE_S", 0.005)
    monkeypatch.setattr(retention, "ATTEMPTS_COUNTED_EVERY_S", 0.0)
    monkeypatch.setattr(retention, "MOST_ATTEMPTS", 10)
    monkeypatch.setattr(retention, "BATCH_ROWS", 7)
    return tmp_path / "broker.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    """Open a store for a while."""
    store = SqliteStore(str(path))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def attempts(path: Path) -> list[int]:
    """Return the seq of each failed attempt in the file."""
    with closing(sqlite3.connect(path)) as reader:
        return [seq for (seq,) in reader.execute("SELECT seq FROM attempt ORDER BY seq")]


async def until(condition: Callable[[], bool]) -> None:
    """Let the store work until something holds."""
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 the file rings no bell
            await anyio.sleep(0.01)


async def subscribed(store: SqliteStore) -> tuple[Shard, list[int]]:
    """Subscribe to the topic from its beginning, and fetch what it has."""
    await store.create_subscription("t", "s", {}, 1)
    shard = await anext(store.claim())
    return shard, [message.seq for message in await shard.fetch(1000)]


async def published(store: SqliteStore, count: int) -> tuple[Shard, list[int]]:
    """Publish so many messages, and fetch them all for a subscription."""
    await store.create_topic("t", {})
    await store.append("t", [NewMessage("m", "/s", None, b"{}", b"x", None)] * count)
    return await subscribed(store)


async def trim(store: SqliteStore, first: int) -> None:
    """Remove what is before a sequence."""
    while await store.trim("t", first) < first:
        pass


async def fail(store: SqliteStore, unsettled: set[int]) -> None:
    """Fail once at each of 50 messages, and settle all but some."""
    shard, seqs = await published(store, 50)
    failed = [FailedAttempt(seq, 1, 5.0, None, "refused", 3, "") for seq in seqs]
    rows = [ExceptionRow(seq, None, "retry", 1) for seq in seqs]
    await shard.commit(Changes(put=rows, failed=failed), soon=True)
    done = [seq for seq in seqs if seq not in unsettled]
    await shard.commit(Changes(drop=done), soon=True)


async def test_no_more_attempts_stay_than_a_subscription_may_have(path: Path) -> None:
    async with opened(path) as store:
        await fail(store, unsettled={3, 4, 20})

        # What is not settled keeps its attempts; of the others the newest stay.
        await until(lambda: attempts(path) == [3, 4, 20, *range(41, 51)])


async def test_attempts_of_the_life_before_go_with_their_messages(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_ATTEMPTS", 100)
    async with opened(path) as store:
        await fail(store, unsettled=set())

    async with opened(path) as store:
        await trim(store, 31)
        await until(lambda: attempts(path) == list(range(31, 51)))


async def settled(store: SqliteStore, count: int) -> Shard:
    """Settle so many messages, as before an attempt that is the only one."""
    shard, seqs = await published(store, count)
    await shard.commit(Changes(done=seqs), soon=True)
    return shard


def failed_at(*seqs: int) -> Changes:
    return Changes(failed=[FailedAttempt(seq, 1, 5.0, None, "refused", 3, "") for seq in seqs])


async def test_attempts_without_a_row_go_with_their_messages(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_ATTEMPTS", 100)
    async with opened(path) as store:
        shard = await settled(store, 50)
        await shard.commit(failed_at(*range(1, 51)), soon=True)

        await trim(store, 31)
        await until(lambda: attempts(path) == list(range(31, 51)))


async def test_attempt_that_fails_after_its_message_has_gone_goes_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ATTEMPTS_COUNTED_EVERY_S", 3600.0)
    async with opened(path) as store:
        shard = await settled(store, 500)
        await shard.commit(failed_at(499), soon=True)
        await trim(store, 401)
        for _ in range(5):
            await store._purge.turn()

        await shard.commit(failed_at(5, 450), soon=True)
        await until(lambda: attempts(path) == [450, 499])


async def test_attempts_that_fail_while_others_are_removed_are_looked_at(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ATTEMPTS_COUNTED_EVERY_S", 3600.0)
    async with opened(path) as store:
        shard = await settled(store, 500)
        await trim(store, 401)
        await shard.commit(failed_at(*range(301, 400)), soon=True)
        await until(lambda: len(attempts(path)) < 99)  # the first of many batches has gone
        await shard.commit(failed_at(*range(1, 40)), soon=True)
        await until(lambda: attempts(path) == [])


async def test_attempts_of_a_subscription_go_with_it(path: Path) -> None:
    async with opened(path) as store:
        shard = await settled(store, 50)
        await shard.commit(failed_at(*range(1, 9)), soon=True)
        shard.commit(failed_at(9))  # on its way
        await store.drop_subscription("t", "s")
        await until(lambda: attempts(path) == [])

        await until(lambda: not store._attempted)
        anew, seqs = await subscribed(store)
        await anew.commit(Changes(done=seqs), soon=True)
        await anew.commit(failed_at(3), soon=True)
        await trim(store, 31)
        await until(lambda: attempts(path) == [])
