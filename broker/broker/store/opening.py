"""Which store a setting names."""

from collections.abc import Callable
from pathlib import Path

from broker.config import Settings, sqlite_path
from broker.nats_address import SCHEME, parse_address
from broker.partition import HOME
from broker.store.port import Store
from broker.store.sqlite import SqliteStore


def cells_in(settings: Settings) -> int:
    """Return in how many parts the store is."""
    on_nats = settings.store.startswith(SCHEME)
    return parse_address(settings.store).cells if on_nats else 1


def replica_folder(settings: Settings, cell: int) -> Path:
    """Return where this broker's copy of a part of the store is."""
    folder = Path(settings.replica)
    return folder if cell == HOME else folder / f"cell-{cell}"


def open_store(settings: Settings, failed: Callable[[str], None], cell: int = HOME) -> Store:
    """Return the store that `BROKER_STORE` names, or a part of it, not opened yet.

    `failed` is called once, with the reason, when it can take no more writes.
    """
    if settings.store.startswith(SCHEME):
        # Only here: the client of NATS takes 16 MB of which a broker alone has no use.
        from broker.store.jetstream import jetstream_store

        address = parse_address(settings.store).of(cell)
        folder = replica_folder(settings, cell)
        url, rpc = settings.node_url, settings.node_rpc
        return jetstream_store(address, folder, url, rpc, failed=failed)
    return SqliteStore(sqlite_path(settings.store), failed=failed)
