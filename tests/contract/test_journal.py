"""What is JetStream's own: an owner and its journal."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.nats_address import parse_address
from broker.store.jetstream import jetstream_store
from broker.store.jetstream.journal import JetStreamJournal
from broker.store.jetstream.lease import LeaseTimes
from broker.store.jetstream.records import Beat, Record, Released, decode
from broker.store.jetstream.replica import Replica
from broker.store.jetstream.stream import Stream
from broker.store.port import Unavailable, Unusable
from broker.store.sqlite import SqliteStore
from contract.messages import TOPIC, new_message
from support.nats_server import NatsServer

pytestmark = pytest.mark.anyio
BEATS_SOON = LeaseTimes(lapse_s=60.0, beat_s=0.05)


class LateAnswer:
    """Has the next beat stored, and answered, or its answer lost, once `told` is set."""

    def __init__(self, *, lost: bool) -> None:
        self._lost = lost
        self.stored = asyncio.Event()
        self.told = asyncio.Event()
        self._append = Stream.append

    async def append(self, stream: Stream, payload: bytes, last: int, name: str) -> int:
        """Stand in for Stream.append."""
        seq = await self._append(stream, payload, last, name)
        if isinstance(decode(payload), Beat) and not self.told.is_set():
            self.stored.set()
            await self.told.wait()
            if self._lost:
                raise Unavailable("NATS does not answer")
        return seq


class Beats:
    """Counts the beats that are stored, in whatever thread they are written."""

    def __init__(self) -> None:
        self._stored = threading.Semaphore(0)
        self._append = Stream.append

    async def append(self, stream: Stream, payload: bytes, last: int, name: str) -> int:
        """Stand in for Stream.append."""
        seq = await self._append(stream, payload, last, name)
        if isinstance(decode(payload), Beat):
            self._stored.release()
        return seq

    def come(self, count: int) -> bool:
        """Block the thread until so many more are stored; say whether they are."""
        return all(self._stored.acquire(timeout=5) for _ in range(count))


def open_at(
    address: str, folder: Path, failures: list[str], url: str = "http://127.0.0.1:1"
) -> SqliteStore:
    """Make a store of a test's own, not opened, whose journal shares the test's loop."""
    journal = JetStreamJournal(parse_address(address), url, times=BEATS_SOON)
    return SqliteStore(str(folder / "replica.db"), failed=failures.append, journal=journal)


async def test_group_is_not_taken_for_a_beat_of_unknown_fate(
    nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []
    store = open_at(f"nats://{nats.address}/fate", tmp_path, failures)
    await store.open()
    await store.create_topic(TOPIC, {})
    beat = LateAnswer(lost=True)
    monkeypatch.setattr(Stream, "append", lambda *arguments: beat.append(*arguments))

    await asyncio.wait_for(beat.stored.wait(), 10)
    publishing = asyncio.create_task(store.append(TOPIC, [new_message("a")]))
    for _ in range(100):  # until its group waits for the beat
        await asyncio.sleep(0)
    beat.told.set()

    with pytest.raises(Unavailable):
        await asyncio.wait_for(publishing, 10)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "replica.db")) as connection:
        assert connection.execute("SELECT count(*) FROM block").fetchone() == (0,)
    assert len(failures) == 1


async def test_owner_that_stops_in_the_middle_of_a_beat_lets_go(
    nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"nats://{nats.address}/beaten"
    store = open_at(address, tmp_path, [])
    await store.open()
    beat = LateAnswer(lost=False)
    monkeypatch.setattr(Stream, "append", lambda *arguments: beat.append(*arguments))

    await asyncio.wait_for(beat.stored.wait(), 10)
    closing_store = asyncio.create_task(store.close())
    for _ in range(100):  # until it waits for the beat, or has cut it off
        await asyncio.sleep(0)
    beat.told.set()
    await asyncio.wait_for(closing_store, 10)

    assert isinstance(await last_record(address), Released)


@pytest.mark.parametrize(("of", "name"), [(SqliteStore, "_load"), (Replica, "apply")])
async def test_owner_keeps_its_lease_however_long_its_store_takes_to_load(
    nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: type, name: str
) -> None:
    beats, load = Beats(), getattr(of, name)
    came: list[bool] = []

    def load_slowly(*arguments: Any) -> None:
        came.append(beats.come(3))
        load(*arguments)

    monkeypatch.setattr(Stream, "append", lambda *arguments: beats.append(*arguments))
    monkeypatch.setattr(of, name, load_slowly)
    store = jetstream_store(
        parse_address(f"nats://{nats.address}/slow{name}"),
        tmp_path,
        "http://127.0.0.1:1",
        times=BEATS_SOON,
    )
    await store.open()
    await store.close()

    assert came == [True]


async def test_owner_that_found_nobody_has_not_stood_by(nats: NatsServer, tmp_path: Path) -> None:
    store = jetstream_store(
        parse_address(f"nats://{nats.address}/nobody"),
        tmp_path,
        "http://127.0.0.1:1",
        times=LeaseTimes(lapse_s=600.0, beat_s=300.0),
    )
    standing_by = asyncio.create_task(store.standing_by())
    await store.open()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not standing_by.done()
    standing_by.cancel()
    await store.close()


async def test_store_goes_to_the_broker_that_is_named_and_comes_back(
    nats: NatsServer, tmp_path: Path
) -> None:
    """The lease lasts a minute, so that whoever opens within seconds was let in."""
    address = f"nats://{nats.address}/handed"
    folders = {name: tmp_path / name for name in "abc"}
    failures: list[str] = []

    def store_of(name: str) -> SqliteStore:
        return open_at(address, folders[name], failures, f"http://{name}")

    first = store_of("a")
    await first.open()
    await first.create_topic(TOPIC, {})
    second, third = store_of("b"), store_of("c")
    opening = asyncio.create_task(second.open())
    await asyncio.wait_for(second.standing_by(), 10)
    following = asyncio.create_task(third.open())
    await asyncio.wait_for(third.standing_by(), 10)
    while not (second.follows() and third.follows()):  # noqa: ASYNC110 a step of what is tested
        await asyncio.sleep(0.01)

    await first.close("http://c")
    await asyncio.wait_for(following, 10)
    again = store_of("a")
    returning = asyncio.create_task(again.open())
    await asyncio.wait_for(again.standing_by(), 10)
    while second.owner() != "http://c":  # noqa: ASYNC110 a step of what is tested
        await asyncio.sleep(0.01)
    assert not opening.done(), "another was named"
    assert again.owner() == "http://c"

    await third.create_topic("other", {})
    await third.close("http://a")
    await asyncio.wait_for(returning, 10)
    assert not opening.done()
    assert again.topic_stats("other").message_count == 0
    await again.close()
    await asyncio.wait_for(opening, 10)
    await second.close()
    assert not failures


async def last_record(address: str) -> Record:
    """Read what stands last in a journal."""
    stream = Stream(parse_address(address))
    await stream.open()
    try:
        _, last = await stream.bounds()
        (entry,) = await stream.read(last - 1)
        return decode(entry.payload)
    finally:
        await stream.close()


async def test_servers_that_take_too_short_messages_are_refused(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats")
    server.configure()
    with (server.folder / "nats.conf").open("a") as configuration:
        configuration.write("max_payload: 65536\n")
    server.start()
    try:
        store = open_at(f"nats://{server.address}/short", tmp_path / "copy", [])
        with pytest.raises(Unusable, match="max_payload"):
            await asyncio.wait_for(store.open(), 30)
    finally:
        server.close()


async def test_who_is_told_to_stop_reads_no_further(nats: NatsServer) -> None:
    stream = Stream(parse_address(f"nats://{nats.address}/stopped"))
    await stream.open()

    async def read() -> None:
        while True:
            await stream.read(0)

    try:
        for turn in range(50):
            reading = asyncio.create_task(read())
            await asyncio.sleep(turn / 10_000)
            reading.cancel()
            _, left = await asyncio.wait((reading,), timeout=5.0)
            while not reading.done():
                reading.cancel()
                await asyncio.wait((reading,), timeout=0.1)
            assert not left
    finally:
        await stream.close()
