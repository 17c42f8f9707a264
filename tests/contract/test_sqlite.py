"""What is SQLite's own: the file, its lock, a full disk, the write-ahead log, the purge."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker.model import FailedAttempt
from broker.store.port import Changes, Locked, Store, StoreError, Unavailable, Unusable
from broker.store.sqlite import SqliteStore, checkpoint, connection
from contract.homes import SqliteHome
from contract.messages import (
    SUBSCRIPTION,
    TOPIC,
    fetch_all,
    new_message,
    own,
    publish,
    publish_keys,
    read_all,
    row,
    seqs_of,
    settle,
)
from support.eventually import eventually

pytestmark = pytest.mark.anyio
MEBIBYTE = 1024 * 1024


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[SqliteHome]:
    """A place for a SQLite store, with nothing in it."""
    home = SqliteHome(tmp_path)
    yield home
    await home.close()


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let this process write no file beyond its first few bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (it is told by files and counters)
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def child(**options: Any) -> Iterator[None]:
    """Have a child process while the context lasts."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, **options) as process:
        try:
            yield
        finally:
            process.kill()


# -- a commit that fails -----------------------------------------------------------------------


async def test_full_disk_fails_every_waiter_and_stores_nothing_by_half(
    home: SqliteHome, store: Store
) -> None:
    shard = await own(store)
    kept = await publish_keys(store, "a", "b")
    await fetch_all(shard)

    with full_disk():
        answers = await asyncio.wait_for(
            asyncio.gather(
                *(store.append(TOPIC, [new_message(f"{n}{m}") for m in "xyz"]) for n in range(9)),
                store.put_document("note/a", {}, None),
                store.create_topic("bills", {}),
                shard.commit(Changes(put=[row(1, "retry")], done=[2]), soon=True),
                shard.due(1e12, 5, frozenset()),
                return_exceptions=True,
            ),
            30,
        )
        told = asyncio.get_running_loop().create_future()
        store.append_soon(TOPIC, [new_message()], told)
        later = await asyncio.gather(
            store.append(TOPIC, [new_message()]),
            told,
            shard.commit(Changes(done=[1]), soon=True),
            shard.regroup("key"),
            store.put_document("note/a", {}, None),
            return_exceptions=True,
        )

    assert [type(answer) for answer in answers] == [Unavailable] * 13
    assert [type(answer) for answer in later] == [Unavailable] * 5
    assert home.failures == [store.writable()]
    assert seqs_of(await read_all(store)) == kept  # it can still be read

    store = await home.reopen()
    assert store.writable() is None
    assert seqs_of(await read_all(store)) == kept
    assert store.documents("note/") == store.documents("topic/bills") == {}
    stats = await store.shard_stats(TOPIC, SUBSCRIPTION)
    assert (stats.position, stats.backlog, dict(stats.rows)) == (0, 2, {})
    (appended,) = await store.append(TOPIC, [new_message("0x")])
    assert not appended.duplicate
    assert appended.sequence is not None
    assert appended.sequence > max(kept)


async def test_store_that_failed_goes_on_after_a_crash(home: SqliteHome, store: Store) -> None:
    kept = await publish_keys(store, None)
    with full_disk(), pytest.raises(Unavailable):
        await publish_keys(store, None)

    store = await home.crash()

    assert seqs_of(await read_all(store)) == kept
    assert (await publish_keys(store, None))[0] > kept[0]


async def test_store_that_failed_lets_go_though_the_disk_is_still_full(
    home: SqliteHome, store: Store
) -> None:
    kept = await publish_keys(store, None)
    with full_disk():
        with pytest.raises(Unavailable):
            await publish_keys(store, None)
        await home.close()

    assert seqs_of(await read_all(await home.open())) == kept


async def test_store_that_failed_in_a_purge_lets_go(home: SqliteHome, store: Store) -> None:
    await publish(store, *[new_message()] * 5000)
    await store.drop_topic(TOPIC)
    with full_disk():
        await until(lambda: store.writable() is not None)
        await home.close()

    store = await home.open()

    assert store.writable() is None
    assert store.documents("") == {}


async def test_what_cannot_be_written_hangs_nobody(home: SqliteHome, store: Store) -> None:
    answers = await asyncio.wait_for(
        asyncio.gather(
            store.append(TOPIC, [new_message(key="\ud800")]),
            store.append(TOPIC, [new_message()]),
            return_exceptions=True,
        ),
        30,
    )

    assert [type(answer) for answer in answers] == [Unavailable] * 2
    assert len(home.failures) == 1
    assert await read_all(await home.reopen()) == []


# -- closing -------------------------------------------------------------------------------------


async def test_close_ends_a_slow_commit_first(home: SqliteHome, store: Store) -> None:
    big = new_message(data=bytes(8 * MEBIBYTE))
    await publish(store, big, big)  # from now on, commits run in a thread
    await publish(store, big, big)

    appending = [asyncio.ensure_future(publish(store, big, big)) for _ in range(2)]
    for turns in range(8):
        await asyncio.sleep(0)
        if turns == 3:
            appending.append(asyncio.ensure_future(publish(store, new_message())))
    await home.close()
    answers = await asyncio.wait_for(asyncio.gather(*appending), 30)

    assert home.failures == []
    stored = seqs_of(await read_all(await home.open()))
    assert {seq for seqs in answers for seq in seqs} <= set(stored)


async def test_write_after_close_is_refused(home: SqliteHome, store: Store) -> None:
    await home.close()

    with pytest.raises(Unavailable):
        await asyncio.wait_for(store.put_document("note/a", {}, None), 30)


# -- opening -------------------------------------------------------------------------------------


@pytest.fixture
def _short_wait_for_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_LOCK_WAIT_S", 0.1)


@pytest.mark.usefixtures("_short_wait_for_the_lock")
async def test_second_owner_is_refused(home: SqliteHome, store: Store) -> None:
    with pytest.raises(Locked, match=r"Another broker is using .* Stop it first"):
        await home.store().open()

    await publish_keys(store, None)  # the owner is not disturbed
    await home.close()
    await home.open()


@pytest.mark.usefixtures("_short_wait_for_the_lock")
async def test_child_keeps_the_store_owned_while_it_lives(home: SqliteHome, store: Store) -> None:
    descriptor = store.lock_descriptor()
    assert descriptor is not None
    with child(pass_fds=[descriptor]):
        await home.close()
        with pytest.raises(Locked):
            await home.open()

    await home.open()


async def test_other_children_do_not_keep_the_store_owned(home: SqliteHome, store: Store) -> None:
    with child(close_fds=False):
        await home.reopen()


async def _assert_unusable(store: SqliteStore, *texts: str) -> None:
    """Opening tells why; it holds nothing afterwards."""
    for _ in range(2):  # the second time would meet a lock that the first had left
        with pytest.raises(Unusable) as refused:
            await store.open()
        for text in texts:
            assert text in str(refused.value)
    await store.close()


async def test_file_that_is_no_database_is_refused_and_left_alone(home: SqliteHome) -> None:
    content = b"Dear diary, " * 1000
    home.path.write_bytes(content)

    await _assert_unusable(home.store(), str(home.path), "not a database", "BROKER_STORE")

    assert home.path.read_bytes() == content


async def test_folder_in_the_files_place_is_refused(home: SqliteHome) -> None:
    home.path.mkdir()

    await _assert_unusable(home.store(), str(home.path), "unable to open", "BROKER_STORE")


async def test_damaged_database_is_refused(home: SqliteHome, store: Store) -> None:
    await publish_keys(store, *"abc")
    await home.close()
    with home.path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (home.path.stat().st_size - 8192))

    await _assert_unusable(home.store(), str(home.path), "malformed", "restore a backup")


async def test_newer_schema_is_refused_and_left_alone(home: SqliteHome, store: Store) -> None:
    await publish_keys(store, "a")
    await home.close()
    with contextlib.closing(sqlite3.connect(home.path)) as newer:
        newer.execute("PRAGMA user_version = 999")

    await _assert_unusable(home.store(), "newer broker", "999")

    with contextlib.closing(sqlite3.connect(home.path)) as newer:
        assert newer.execute("PRAGMA user_version").fetchone() == (999,)
        assert newer.execute("SELECT count(*) FROM each_message").fetchone() == (1,)


@contextlib.contextmanager
def without_privilege() -> Iterator[None]:
    """Let the rights of files count, for root too."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[None]:
    """Let everybody pass the folders down to a path, root's group too."""
    closed = [(folder, folder.stat().st_mode) for folder in path.parents]
    closed = [(folder, mode) for folder, mode in closed if mode & 0o011 != 0o011]
    for folder, mode in closed:
        folder.chmod(mode | 0o011)
    try:
        yield
    finally:
        for folder, mode in closed:
            folder.chmod(mode)


async def test_folder_that_cannot_be_written_is_refused(home: SqliteHome) -> None:
    home.path.parent.chmod(0o555)

    with reachable(home.path), without_privilege():
        await _assert_unusable(
            home.store(), str(home.path.parent), "Permission denied", "BROKER_STORE"
        )


async def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    await _assert_unusable(SqliteStore(str(tmp_path / "file" / "broker.db")), "BROKER_STORE")


async def test_database_that_cannot_be_written_is_refused(home: SqliteHome, store: Store) -> None:
    await publish_keys(store, "a")
    await home.close()
    home.path.chmod(0o444)
    home.path.with_name(home.path.name + ".lock").chmod(0o666)
    home.path.parent.chmod(0o777)

    with reachable(home.path), without_privilege():
        await _assert_unusable(home.store(), str(home.path), "readonly", "writable")

    home.path.chmod(0o644)
    assert len(await read_all(await home.open())) == 1


async def test_full_disk_refuses_a_new_store(home: SqliteHome) -> None:
    with full_disk():
        await _assert_unusable(home.store(), str(home.path))

    await home.open()


async def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "a" / "b" / "broker.db"))
    await store.open()
    await store.close()


# -- the write-ahead log ---------------------------------------------------------------------------


async def test_write_ahead_log_starts_over_under_appends_that_never_pause(
    home: SqliteHome, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "POLL_S", 0.05)
    monkeypatch.setattr(checkpoint, "RESTART_FRAMES", 128)
    store = await home.reopen()
    log = home.path.with_name(home.path.name + "-wal")
    batch = [new_message(data=bytes(16 * 1024))] * 16
    stop = asyncio.Event()
    appended = 0

    async def append() -> None:
        nonlocal appended
        while not stop.is_set():
            await publish(store, *batch)
            appended += sum(len(message.data or b"") for message in batch)

    writers = [asyncio.ensure_future(append()) for _ in range(3)]
    lives: set[bytes] = set()
    while len(lives) < 5 and appended < 512 * MEBIBYTE:
        await asyncio.sleep(0)
        with log.open("rb") as file:
            lives.add(file.read(24)[12:24])  # a counter and salts, new whenever it starts over
    stop.set()
    await asyncio.gather(*writers)

    assert len(lives) == 5
    assert log.stat().st_size < appended
    assert len(await read_all(store)) == appended // (16 * 1024)


async def test_write_ahead_log_that_had_to_grow_is_cut_once_nothing_is_written_any_more(
    home: SqliteHome, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "POLL_S", 0.05)
    monkeypatch.setattr(checkpoint, "SHRINK_BYTES", MEBIBYTE)
    store = await home.reopen()
    log = home.path.with_name(home.path.name + "-wal")
    with contextlib.closing(sqlite3.connect(home.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM block").fetchone()
        for _ in range(4):
            await publish(store, *[new_message(data=bytes(64 * 1024))] * 16)
        grown = log.stat().st_size

    await asyncio.to_thread(eventually, lambda: log.stat().st_size <= MEBIBYTE)

    assert grown > 4 * MEBIBYTE
    assert len(await read_all(store)) == 64


async def test_removal_writes_little_to_the_write_ahead_log(
    home: SqliteHome, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes room on a disk that has hardly any."""
    monkeypatch.setattr(checkpoint, "POLL_S", 3600)  # the log keeps all that is written
    store = await home.reopen()
    log = home.path.with_name(home.path.name + "-wal")
    await store.create_topic("unread", {})
    for _ in range(16):
        await publish(store, new_message(data=bytes(MEBIBYTE)), topic="unread")
    published = log.stat().st_size

    while await store.trim("unread", 17) < 17:
        pass

    assert store.reusable_bytes() > 15 * MEBIBYTE
    assert log.stat().st_size - published < MEBIBYTE


# -- what is dropped -------------------------------------------------------------------------------

TABLES = (
    *("topic", "small_block", "large_block", "publish_key", "id_run"),
    *("subscription", "exception", "attempt", "document"),
)


def counts(home: SqliteHome) -> dict[str, int]:
    """Count the rows of each table that has any."""
    with contextlib.closing(sqlite3.connect(home.path)) as reader:
        found = {
            table: reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
        }
    return {table: number for table, number in found.items() if number}


async def _fill(store: Store, messages: int) -> None:
    shard = await own(store)
    await publish(store, *[new_message(f"id {n}") for n in range(messages)])
    await fetch_all(shard)
    failed = FailedAttempt(1, 1, 5.0, None, "refused", 3, "")
    await shard.commit(Changes(put=[row(1, "retry"), row(2, "dead")], failed=[failed]), soon=True)


async def test_dropped_topic_leaves_nothing_behind(home: SqliteHome, store: Store) -> None:
    await _fill(store, 1200)

    await store.drop_topic(TOPIC)

    assert "subscription" not in counts(home)
    assert "document" not in counts(home)
    await until(lambda: not counts(home))


async def test_purge_goes_on_in_the_next_life(home: SqliteHome, store: Store) -> None:
    await _fill(store, 1200)
    await store.drop_topic(TOPIC)

    store = await home.crash()

    assert counts(home)
    assert store.documents("") == {}
    await until(lambda: not counts(home))


async def test_publishes_go_on_beside_a_purge(home: SqliteHome, store: Store) -> None:
    await _fill(store, 1200)
    await store.drop_topic(TOPIC)
    await store.create_topic(TOPIC, {})
    seqs: list[int] = []

    async def only_the_new() -> None:
        while counts(home).get("small_block") != len(seqs) or counts(home)["topic"] != 1:
            seqs.extend(await publish(store, new_message(f"id {len(seqs)}")))

    await asyncio.wait_for(only_the_new(), 60)

    assert seqs_of(await read_all(store)) == seqs
    assert store.topic_stats(TOPIC).message_count == len(seqs)


async def test_dropped_subscription_leaves_nothing_behind(home: SqliteHome, store: Store) -> None:
    await _fill(store, 3)

    await store.drop_subscription(TOPIC, SUBSCRIPTION)

    assert "subscription" not in counts(home)
    await until(lambda: set(counts(home)) == {"topic", "small_block", "publish_key", "document"})


async def test_rows_of_a_dropped_subscription_go_in_the_next_life(
    home: SqliteHome, store: Store
) -> None:
    await _fill(store, 3)
    await store.drop_subscription(TOPIC, SUBSCRIPTION)

    store = await home.crash()

    await until(lambda: set(counts(home)) == {"topic", "small_block", "publish_key", "document"})


async def test_attempts_at_a_settled_delivery_stay_as_long_as_its_message(
    home: SqliteHome, store: Store
) -> None:
    shard = await own(store)
    await publish_keys(store, *"abc")
    await fetch_all(shard)
    await settle(shard, 1)
    failed = [FailedAttempt(seq, 1, 5.0, None, "refused", 3, "") for seq in (2, 3)]
    rows = [row(2, "retry"), row(3, "retry")]
    await shard.commit(Changes(put=rows, failed=failed), soon=True)
    await shard.commit(Changes(drop=[2, 3]), soon=True)
    assert counts(home)["attempt"] == 2
    assert "exception" not in counts(home)

    assert await store.trim(TOPIC, 3) == 3
    await until(lambda: counts(home)["attempt"] == 1)
    assert await store.attempts(TOPIC, SUBSCRIPTION, 2) == []
    assert len(await store.attempts(TOPIC, SUBSCRIPTION, 3)) == 1

    assert await store.trim(TOPIC, 4) == 4
    await until(lambda: set(counts(home)) == {"topic", "subscription", "document"})


async def test_room_is_that_of_the_file_system(home: SqliteHome, store: Store) -> None:
    found = os.statvfs(home.path.parent)

    assert 0 < store.free_bytes() <= found.f_frsize * found.f_blocks


async def test_scrub_that_would_fill_the_disk_is_refused(
    home: SqliteHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await home.open()
    await store.create_topic(TOPIC, {})
    before = home.path.read_bytes()
    room = SimpleNamespace(f_bavail=10, f_frsize=4096)
    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", lambda _: room)
        with pytest.raises(StoreError, match="and 40,960 are free"):
            await store.scrub()
    assert home.path.read_bytes() == before

    await store.scrub()


async def test_scrub_beside_a_reader_is_told_and_loses_nothing(home: SqliteHome) -> None:
    store = await home.open()
    await store.create_topic(TOPIC, {"text": "hush"})
    await store.put_document(f"topic/{TOPIC}", {}, 1)
    with contextlib.closing(sqlite3.connect(home.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM topic").fetchone()
        with pytest.raises(StoreError, match="another program reads the file"):
            await store.scrub()
        await publish(store, new_message())
    assert len(await read_all(store)) == 1

    await store.scrub()
    assert b"hush" not in await home.stored()
