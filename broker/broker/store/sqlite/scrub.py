"""Leaving nothing in the files of what the store no longer holds.

SQLite overwrites nothing that is removed: it stays in pages that are free, in the free part of
others, also of those that another table has got since, and in the write-ahead log. Only writing the
whole file anew is sure to leave it out. (`secure_delete` looks ahead and not back, and makes every
removal dearer.)
"""

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

from broker.store.port import StoreError
from broker.store.sqlite.connection import PAGE_BYTES


def scrub(path: Path, writing: threading.Lock) -> None:
    """Write the file anew, and empty the write-ahead log.

    `writing` is the lock that the writer holds during a transaction. Raises StoreError.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(connection), writing:
        _require_room(connection, path.parent)
        try:
            # Beside the file: a container's other folders may be read-only, or in memory.
            folder = str(path.parent).replace("'", "''")
            connection.execute("PRAGMA temp_store=FILE")
            connection.execute(f"PRAGMA temp_store_directory='{folder}'")
            connection.execute("VACUUM")
        except sqlite3.Error as error:
            raise StoreError(f"the file could not be written anew ({error})") from None
        finally:
            busy = _empty_log(connection)
    if busy:
        raise StoreError("another program reads the file, so the write-ahead log could not be cut")


def _require_room(connection: sqlite3.Connection, folder: Path) -> None:
    """Refuse what would fill the disk: all goes to a temporary file first, and then to the log."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free_pages,) = connection.execute("PRAGMA freelist_count").fetchone()
    needed = 2 * (pages - free_pages) * PAGE_BYTES
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if free < needed:
        raise StoreError(f"that needs {needed:,} bytes on the disk, and {free:,} are free")


def _empty_log(connection: sqlite3.Connection) -> bool:
    """Cut the write-ahead log; say whether somebody keeps it."""
    with contextlib.suppress(sqlite3.Error):
        return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
    return True
