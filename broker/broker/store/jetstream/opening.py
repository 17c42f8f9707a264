"""Putting a store on JetStream together."""

import time
from collections.abc import Callable
from pathlib import Path

from broker.nats_address import Address
from broker.store.jetstream.journal import SNAPSHOT_BYTES, JetStreamJournal
from broker.store.jetstream.lease import LeaseTimes
from broker.store.jetstream.thread import JournalThread
from broker.store.sqlite import SqliteStore
from broker.store.sqlite.commit_place import CommitPlace

FILE = "replica.db"


def jetstream_store(
    address: Address,
    folder: Path,
    url: str,
    rpc: str = "",
    *,
    now: Callable[[], float] = time.time,
    failed: Callable[[str], None] = lambda _: None,
    commit_place: Callable[[], CommitPlace] = CommitPlace,
    times: LeaseTimes | None = None,
    snapshot_bytes: int = SNAPSHOT_BYTES,
) -> SqliteStore:
    """Return a store whose journal is at an address, and whose file is in a folder, not opened yet.

    The other brokers reach this one at `url` while it owns the journal, and its gRPC at `rpc`: a
    host and a port.
    """
    journal = JetStreamJournal(address, url, rpc, times=times, snapshot_bytes=snapshot_bytes)
    return SqliteStore(
        str(folder / FILE),
        now=now,
        failed=failed,
        commit_place=commit_place,
        journal=JournalThread(journal),
    )
