"""The default store: one SQLite file, one owner."""

from broker.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
