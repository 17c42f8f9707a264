"""The journal: followed while another broker owns it, claimed when nobody does, then written."""

import asyncio
import contextlib
import logging
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from broker.boot_time import boot_time
from broker.nats_address import Address
from broker.store.jetstream.connection import TRANSIENT
from broker.store.jetstream.lease import Lease, LeaseTimes, Watch
from broker.store.jetstream.records import (
    Beat,
    Claimed,
    Record,
    Released,
    decode,
    encode,
    parts_of,
)
from broker.store.jetstream.replica import OtherJournal, Replica, numbered, place, place_in
from broker.store.jetstream.stream import Entry, Stream
from broker.store.port import LeaseLost, StoreError, Unavailable, Unusable
from broker.store.sqlite.backup import backup
from broker.store.sqlite.journal import Execution

log = logging.getLogger(__name__)

NODE = "node"
POLL_S = 0.1
LET_GO_S = 3.0
# A snapshot is made when as much has been written since the last one, and as much as it has itself:
# so what is written twice is never more than what is written once.
SNAPSHOT_BYTES = 64 * 1024 * 1024
SNAPSHOT_PAUSE_S = 1.0


class Claim(NamedTuple):
    """A claim of this broker's that stands in the journal."""

    seq: int
    record: Claimed


class JetStreamJournal:
    """Implements broker.store.sqlite.journal.Journal."""

    def __init__(
        self,
        address: Address,
        url: str,
        rpc: str = "",
        *,
        times: LeaseTimes | None = None,
        clock: Callable[[], float] = boot_time,
        snapshot_bytes: int = SNAPSHOT_BYTES,
    ) -> None:
        self._address = address
        self._url = url
        self._rpc = rpc
        self._node = ""
        self._times = times or LeaseTimes()
        self._clock = clock
        self._snapshot_bytes = snapshot_bytes
        self._life = ""
        self._numbers = count(1)
        self._stream = Stream(address)
        self._lease = Lease(self._times, clock)
        self._watch = Watch(self._times, clock)
        self._turn = asyncio.Lock()
        self._condensing = asyncio.Lock()
        self._owner: Claimed | None = None
        self._owned = False
        self._last = 0
        self._written = 0  # bytes since the last snapshot
        self._tasks: list[asyncio.Task[None]] = []
        self.standing_by = asyncio.Event()
        self.caught_up = False

    # -- standing by -------------------------------------------------------------------------------

    async def take_over(self, path: Path, lost: Callable[[str], None]) -> None:
        self._node = node_of(path.parent)
        self._life = f"{self._node}-{secrets.token_hex(6)}"
        opening = asyncio.get_running_loop().call_later(self._times.beat_s, self.standing_by.set)
        try:
            journal = await self._stream.open()
            replica = await self._replica(path, journal)
            try:
                claim = await self._follow(replica, path, journal)
                beat = asyncio.create_task(self._beat(lost), name="beat")
                self._tasks = [beat]
                # In a thread, and beside the beat: it may have to bring the file to a newer schema.
                await asyncio.to_thread(replica.apply, claim.seq, claim.record)
            finally:
                replica.close()
        finally:
            opening.cancel()
        if beat.done():
            raise LeaseLost(f"{self._address} was lost while {path} was made ready")
        self._owned = True
        self._owner = None
        self._path = path
        log.info("This broker owns %s.", self._address, extra={"action": "owner"})
        self._tasks.append(asyncio.create_task(self._snapshot(), name="snapshot"))

    async def _replica(self, path: Path, journal: str) -> Replica:
        """Open the file, or one made from the newest snapshot where it is too far behind."""
        replica = Replica(path)
        try:
            replica.open(journal)
        except OtherJournal:
            replica.remove()
            replica.open(journal)
        first, last = await self._bounds()
        if replica.seq + 1 < first or replica.seq > last:
            await self._begin_anew(replica, path, journal)
        return replica

    async def _bounds(self) -> tuple[int, int]:
        while True:
            try:
                return await self._stream.bounds()
            except TRANSIENT:
                await asyncio.sleep(POLL_S)

    async def _begin_anew(self, replica: Replica, path: Path, journal: str) -> None:
        log.info(
            "The copy in %s is made anew from a snapshot.", path, extra={"action": "replica_anew"}
        )
        replica.remove()
        part = path.with_name(path.name + ".part")
        while True:
            try:
                if await self._stream.load(part):
                    part.rename(path)
                break
            except TRANSIENT:
                await asyncio.sleep(POLL_S)
            finally:
                part.unlink(missing_ok=True)
        replica.open(journal)
        first, _ = await self._bounds()
        if replica.seq + 1 < first:
            raise Unusable(
                f"{self._address} begins at {first}, and there is no snapshot of what was before. "
                "Restore the bucket of its snapshots, or set BROKER_STORE to another name."
            )

    async def _follow(self, replica: Replica, path: Path, journal: str) -> Claim:
        """Do what the owner does until this broker owns the journal, by a claim of its own."""
        self._watch.heard()
        self._owner = replica.claim
        while True:
            try:
                entries = await self._stream.read(replica.seq)
            except TRANSIENT:
                await asyncio.sleep(POLL_S)
                continue
            try:
                await self._apply(replica, entries)
            except OtherJournal:  # what comes next has been removed meanwhile
                await self._begin_anew(replica, path, journal)
                self._owner = replica.claim
                continue
            self.caught_up = not entries
            if entries:
                continue
            if self._claimable(replica) and (claim := await self._claim(replica)) is not None:
                return claim
            if self._owner is not None:
                self._stand_by(self._owner.url)
            await asyncio.sleep(POLL_S)

    def _stand_by(self, owner: str) -> None:
        if not self.standing_by.is_set():
            log.info(
                "%s belongs to %s; this broker stands by.",
                self._address,
                owner,
                extra={"action": "standby"},
            )
            self.standing_by.set()

    async def _apply(self, replica: Replica, entries: Sequence[Entry]) -> None:
        for entry in entries:
            record = decode(entry.payload)
            replica.apply(entry.seq, record)
            self._hear(record)
            await asyncio.sleep(0)  # whoever is forwarded to the owner has a turn

    def _hear(self, record: Record) -> None:
        released = isinstance(record, Released)
        # Who is not to follow holds off as if the lease went on: the follower may be gone by now.
        free = isinstance(record, Released) and record.follower in ("", self._url)
        self._watch.heard(released=free)
        if released:
            self._owner = None
        if isinstance(record, Claimed):
            self._owner = record

    def _claimable(self, replica: Replica) -> bool:
        if replica.seq == 0 or self._watch.claimable():
            return True
        # Where the owner was on this very folder, it is gone: the folder's lock is this process's.
        return self._owner is not None and self._owner.owner.startswith(f"{self._node}-")

    async def _claim(self, replica: Replica) -> Claim | None:
        """Try to become the owner, right behind what the replica has."""
        claim = replica.claim_of(self._life, self._url, self._rpc)
        self._last = replica.seq
        try:
            await self._write(claim)
        except (LeaseLost, Unavailable):
            self._watch.heard()  # somebody else was quicker
            return None
        return Claim(self._last, claim)

    def owner(self) -> str | None:
        return None if self._owned or self._owner is None else self._owner.url

    def rpc_owner(self) -> str | None:
        return None if self._owned or self._owner is None else self._owner.rpc or None

    # -- owning ------------------------------------------------------------------------------------

    async def append(self, connection: sqlite3.Connection, executed: Sequence[Execution]) -> None:
        async with self._turn:
            for part in parts_of(numbered(executed)):
                await self._write(part)
            place(connection, self._last)

    async def _write(self, record: Record) -> None:
        payload = encode(record)
        began = self._clock()
        # Never the same again: a record whose fate is unknown may yet stand where this one goes.
        name = f"{self._life}-{next(self._numbers)}"
        self._last = await self._stream.append(payload, self._last, name)
        self._lease.renew(began)
        self._written += len(payload)

    def may_send_until(self) -> float:
        return self._lease.until() if self._owned else float("-inf")

    async def _beat(self, lost: Callable[[str], None]) -> None:
        """Keep the lease while nothing else is written."""
        while True:
            await asyncio.sleep(self._lease.beat_in() or POLL_S)
            async with self._turn:
                if self._lease.beat_in() > 0:
                    continue
                try:
                    await self._write(Beat())
                except StoreError as error:
                    if self._owned:  # else whoever takes over hears of it
                        lost(str(error))
                    return

    async def _snapshot(self) -> None:
        """Keep the journal about as short as the store is small."""
        while True:
            await asyncio.sleep(SNAPSHOT_PAUSE_S)
            if self._written < max(self._snapshot_bytes, self._path.stat().st_size):
                continue
            try:
                await self.condense()
            except StoreError as error:
                log.warning("No snapshot: %s.", error, extra={"action": "snapshot_failed"})

    async def condense(self) -> None:
        async with self._condensing:
            written, copy = self._written, self._path.with_name(self._path.name + ".snapshot")
            copy.unlink(missing_ok=True)
            try:
                await asyncio.to_thread(backup, self._path, copy)
                seq = await asyncio.to_thread(place_in, copy)
                await self._stream.save(copy, seq)
                await self._stream.forget(seq)
            except TRANSIENT as error:
                raise StoreError(str(error)) from None
            finally:
                copy.unlink(missing_ok=True)
            self._written -= written
            log.info(
                "A snapshot stands for the journal up to %d.", seq, extra={"action": "snapshot"}
            )

    async def let_go(self, follower: str | None) -> None:
        self.caught_up = False
        if self._owned:
            with contextlib.suppress(TimeoutError, StoreError):
                await asyncio.wait_for(self._release(follower), LET_GO_S)
            self._owned = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stream.close()

    async def _release(self, follower: str | None) -> None:
        """Have others, or one of them, follow at once."""
        # Behind a beat that is under way: cut off, it would stand in the way.
        async with self._turn:
            for task in self._tasks:
                task.cancel()
            self._owned = False
            await self._write(Released(follower or ""))


def node_of(folder: Path) -> str:
    """Return what tells the brokers that use a folder, one after the other, from all others."""
    path = folder / NODE
    if not path.exists():
        part = path.with_name(f"{NODE}.part")
        part.write_text(secrets.token_hex(8))
        part.replace(path)
    return path.read_text()
