"""What is JetStream's own: an owner and its journal."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from broker.nats_address import parse_address
from broker.store.jetstream import jetstream_store
from broker.store.jetstream.lease import LeaseTimes
from broker.store.jetstream.records import Beat, decode
from broker.store.jetstream.stream import Stream
from broker.store.port import Unavailable
from contract.messages import TOPIC, new_message
from support.nats_server import NatsServer

pytestmark = pytest.mark.anyio
BEATS_SOON = LeaseTimes(lapse_s=60.0, beat_s=0.05)


class LostAnswer:
    """Has the next beat stored, and its answer lost once `told` is set."""

    def __init__(self) -> None:
        self.stored = asyncio.Event()
        self.told = asyncio.Event()
        self._append = Stream.append

    async def append(self, stream: Stream, payload: bytes, last: int, name: str) -> int:
        """Stand in for Stream.append."""
        seq = await self._append(stream, payload, last, name)
        if isinstance(decode(payload), Beat) and not self.told.is_set():
            self.stored.set()
            await self.told.wait()
            raise Unavailable("NATS does not answer")
        return seq


async def test_group_is_not_taken_for_a_beat_of_unknown_fate(
    nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []
    store = jetstream_store(
        parse_address(f"nats://{nats.address}/fate"),
        tmp_path,
        "http://127.0.0.1:1",
        failed=failures.append,
        times=BEATS_SOON,
    )
    await store.open()
    await store.create_topic(TOPIC, {})
    lost = LostAnswer()
    monkeypatch.setattr(Stream, "append", lambda *arguments: lost.append(*arguments))

    await asyncio.wait_for(lost.stored.wait(), 10)
    publishing = asyncio.create_task(store.append(TOPIC, [new_message("a")]))
    for _ in range(100):  # until its group waits for the beat
        await asyncio.sleep(0)
    lost.told.set()

    with pytest.raises(Unavailable):
        await asyncio.wait_for(publishing, 10)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "replica.db")) as connection:
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (0,)
    assert len(failures) == 1
