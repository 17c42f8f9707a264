"""Which store a setting names."""

from collections.abc import Callable

from broker.config import sqlite_path
from broker.store.port import Store
from broker.store.sqlite import SqliteStore


def open_store(url: str, failed: Callable[[str], None]) -> Store:
    """Return the store that `BROKER_STORE` names, not opened yet.

    `failed` is called once, with the reason, when it can take no more writes.
    """
    return SqliteStore(sqlite_path(url), failed=failed)
