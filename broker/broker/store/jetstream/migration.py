"""Moving a store from one file to JetStream: its copy becomes the journal's first snapshot."""

import asyncio
import contextlib
import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from broker.nats_address import Address
from broker.store.jetstream.records import Released, decode, encode
from broker.store.jetstream.replica import Replica, place_in
from broker.store.jetstream.stream import Stream
from broker.store.port import StoreError
from broker.store.sqlite.backup import backup
from broker.store.sqlite.connection import FolderLock, open_writer

# The snapshot stands for the journal's first record, which is removed.
FIRST = 1
_NAME = "migration"
_FETCHED_ROWS = 1000


class NotEmpty(StoreError):
    """There is a store already."""


class Differs(StoreError):
    """What has arrived is not what was sent."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A table: how many rows it has, and the SHA-256 of all of them."""

    table: str
    rows: int
    digest: str


async def migrate_store(
    source: Path, address: Address, progress: Callable[[str], None] = lambda _: None
) -> Sequence[Moved]:
    """Move a file that no broker uses to a journal that has nothing yet; return what was moved.

    The file stays as it is. Cut off, it can be begun again. Raises Locked, Unusable, NotEmpty, and
    Differs when what is read back is not the same.
    """
    lock = FolderLock(source)
    lock.acquire(wait_s=0)
    stream = Stream(address)
    try:
        journal = await stream.open()
        await _require_empty(stream, address)
        with tempfile.TemporaryDirectory(dir=source.parent, prefix=".migration-") as folder:
            copy, back = Path(folder) / "copy.db", Path(folder) / "back.db"
            progress("copying")
            await asyncio.to_thread(backup, source, copy)
            await asyncio.to_thread(_prepare, copy, journal)
            sent = await asyncio.to_thread(_contents, copy, progress)
            progress("sending")
            await stream.save(copy, FIRST)
            progress("reading back")
            await stream.load(back)
            if await asyncio.to_thread(_contents, back, progress) != sent:
                raise Differs(f"What {address} gave back is not what it was given. Try again.")
        _, last = await stream.bounds()
        if last < FIRST:
            await stream.append(encode(Released()), 0, _NAME)
        await stream.forget(FIRST)
        return sent
    finally:
        await stream.close()
        lock.release()


async def _require_empty(stream: Stream, address: Address) -> None:
    first, last = await stream.bounds()
    if last == 0:
        return
    if (last, first) == (FIRST, FIRST):  # an earlier migration got as far as this
        (entry,) = await stream.read(0)
        with contextlib.suppress(msgspec.DecodeError):
            if isinstance(decode(entry.payload), Released):
                return
    raise NotEmpty(f"There is a store on {address} already. Give this one another name.")


def _prepare(copy: Path, journal: str) -> None:
    """Make a copy what a broker's file is that has followed the journal to its first record."""
    open_writer(copy).close()  # at the newest schema
    Replica.adopt(copy, journal, FIRST)
    assert place_in(copy) == FIRST  # noqa: S101 what is sent must not be taken for something else
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # one file, with everything in it


def _contents(file: Path, progress: Callable[[str], None]) -> list[Moved]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
                "ORDER BY name"
            )
        ]
        return [_content(connection, name, progress) for name in names]


def _content(connection: sqlite3.Connection, table: str, progress: Callable[[str], None]) -> Moved:
    digest, count = hashlib.sha256(), 0
    rows = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 a name from the schema
    while page := rows.fetchmany(_FETCHED_ROWS):
        digest.update(encode(page))
        count += len(page)
        progress(f"{table}: {count:,}")
    return Moved(table, count, digest.hexdigest())
