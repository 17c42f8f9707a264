"""Moving a store from one file to JetStream: its copy becomes the journal's first snapshot."""

import asyncio
import contextlib
import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from broker.nats_address import Address
from broker.partition import HOME
from broker.store.jetstream.records import Released, decode, encode
from broker.store.jetstream.replica import Replica, place_in
from broker.store.jetstream.stream import Stream
from broker.store.port import StoreError
from broker.store.sqlite.backup import backup
from broker.store.sqlite.connection import FolderLock, open_writer
from broker.store.sqlite.parting import leave_cell

# The snapshot stands for the journal's first record, which is removed.
FIRST = 1
_NAME = "migration"
_FETCHED_ROWS = 1000
_IN_EACH = ("log", "replica")


class NotEmpty(StoreError):
    """There is a store already."""


class Differs(StoreError):
    """What has arrived is not what was sent."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A table of a cell: how many rows it has, and the SHA-256 of all of them."""

    table: str
    rows: int
    digest: str
    cell: int = HOME


async def migrate_store(
    source: Path, address: Address, progress: Callable[[str], None] = lambda _: None
) -> Sequence[Moved]:
    """Move a file that no broker uses to a journal that has nothing yet; return what was moved.

    Where the store at the address is in cells, each gets what is its own. The file stays as it is.
    Cut off, it can be begun again. Raises Locked, Unusable, NotEmpty, and Differs when what is read
    back is not the same.
    """
    lock = FolderLock(source)
    lock.acquire(wait_s=0)
    streams = [Stream(address.of(cell)) for cell in range(address.cells)]
    try:
        journals = [await stream.open() for stream in streams]
        await _require_empty(streams, address)
        sent: list[Moved] = []
        with tempfile.TemporaryDirectory(dir=source.parent, prefix=".migration-") as folder:
            whole, copy = Path(folder) / "whole.db", Path(folder) / "copy.db"
            progress("copying")
            await asyncio.to_thread(backup, source, whole)
            for cell, (stream, journal) in enumerate(zip(streams, journals, strict=True)):
                await asyncio.to_thread(shutil.copyfile, whole, copy)
                await asyncio.to_thread(_prepare, copy, journal, cell, address.cells)
                sent += await _send(stream, copy, address.of(cell), progress)
                copy.unlink()
            if address.cells > 1:
                await asyncio.to_thread(_require_complete, whole, sent, progress)
        # Only now, and one right after the other: a broker that finds a cell begins with it.
        for stream in streams:
            _, last = await stream.bounds()
            if last < FIRST:
                await stream.append(encode(Released()), 0, _NAME)
        for stream in streams:
            await stream.forget(FIRST)
        return sent
    finally:
        for stream in streams:
            await stream.close()
        lock.release()


async def _send(
    stream: Stream, copy: Path, address: Address, progress: Callable[[str], None]
) -> list[Moved]:
    """Put a copy where its journal begins, and see that it is there."""
    back = copy.with_name("back.db")
    sent = await asyncio.to_thread(_contents, copy, address.cell, progress)
    progress("sending")
    await stream.save(copy, FIRST)
    progress("reading back")
    await stream.load(back)
    if await asyncio.to_thread(_contents, back, address.cell, progress) != sent:
        raise Differs(f"What {address} gave back is not what it was given. Try again.")
    return sent


async def _require_empty(streams: Sequence[Stream], address: Address) -> None:
    """Let pass what an earlier migration left that was cut off before the last cell was done."""
    bounds = [await stream.bounds() for stream in streams]
    unfinished = any(last == 0 or first == FIRST for first, last in bounds)
    for stream, (first, last) in zip(streams, bounds, strict=True):
        if (first, last) == (FIRST, FIRST):
            (entry,) = await stream.read(0)
            with contextlib.suppress(msgspec.DecodeError):
                if isinstance(decode(entry.payload), Released):
                    continue
        elif last == 0 or ((first, last) == (FIRST + 1, FIRST) and unfinished):
            continue
        raise NotEmpty(f"There is a store on {address} already. Give this one another name.")


def _require_complete(whole: Path, sent: Sequence[Moved], progress: Callable[[str], None]) -> None:
    """See that the cells together have what there was, which is parted into one for that."""
    open_writer(whole).close()
    leave_cell(whole, HOME, 1)
    for table in _contents(whole, HOME, progress):
        rows = sum(each.rows for each in sent if each.table == table.table)
        if table.table not in _IN_EACH and rows != table.rows:
            raise Differs(
                f"The cells have {rows:,} rows of {table.table}, and the file has {table.rows:,}."
            )


def _prepare(copy: Path, journal: str, cell: int, cells: int) -> None:
    """Make a copy what a broker's file is that has followed the journal to its first record."""
    open_writer(copy).close()  # at the newest schema
    if cells > 1:
        leave_cell(copy, cell, cells)
    Replica.adopt(copy, journal, FIRST)
    assert place_in(copy) == FIRST  # noqa: S101 what is sent must not be taken for something else
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # one file, with everything in it


def _contents(file: Path, cell: int, progress: Callable[[str], None]) -> list[Moved]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
                "ORDER BY name"
            )
        ]
        return [_content(connection, name, cell, progress) for name in names]


def _content(
    connection: sqlite3.Connection, table: str, cell: int, progress: Callable[[str], None]
) -> Moved:
    digest, count = hashlib.sha256(), 0
    rows = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 a name from the schema
    while page := rows.fetchmany(_FETCHED_ROWS):
        digest.update(encode(page))
        count += len(page)
        progress(f"{table}: {count:,}")
    return Moved(table, count, digest.hexdigest(), cell)
