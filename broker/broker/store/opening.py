"""Which store a setting names."""

from collections.abc import Callable
from pathlib import Path

from broker.config import Settings, sqlite_path
from broker.nats_address import SCHEME, parse_address
from broker.store.port import Store
from broker.store.sqlite import SqliteStore


def open_store(settings: Settings, failed: Callable[[str], None]) -> Store:
    """Return the store that `BROKER_STORE` names, not opened yet.

    `failed` is called once, with the reason, when it can take no more writes.
    """
    if settings.store.startswith(SCHEME):
        # Only here: the client of NATS takes 16 MB of which a broker alone has no use.
        from broker.store.jetstream import jetstream_store

        address = parse_address(settings.store)
        folder, url, rpc = Path(settings.replica), settings.node_url, settings.node_rpc
        return jetstream_store(address, folder, url, rpc, failed=failed)
    return SqliteStore(sqlite_path(settings.store), failed=failed)
