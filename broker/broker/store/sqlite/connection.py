"""Opening the file: the lock on its folder, the pragmas, the migrations."""

import contextlib
import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from broker.store.port import Locked, Unusable
from broker.store.sqlite.queries import SQL, migrations

PAGE_BYTES = 8192
_LOCK_WAIT_S = 5.0
# No checkpointer runs while a broker stands by, and it may do so for months.
_REPLICA_PRAGMAS = (
    "synchronous=NORMAL",  # consistent, if not the newest
    "wal_autocheckpoint=1000",
)
_PRAGMAS = (
    f"page_size={PAGE_BYTES}",
    "journal_mode=WAL",
    "synchronous=FULL",  # in WAL mode: an fsync for every commit
    "wal_autocheckpoint=0",  # the checkpointer does it, off the event loop
    f"journal_size_limit={64 * 1024 * 1024}",  # what a write-ahead log that had to grow shrinks to
    "temp_store=MEMORY",
    # Debian's SQLite would write zeros over what is removed: as much into the write-ahead log as
    # the messages had, and on a disk that is nearly full, more than there is.
    "secure_delete=OFF",
    "foreign_keys=OFF",
)


class FolderLock:
    """The exclusive right to a data folder.

    It is an flock on an open file, so it ends with the last process that holds the descriptor. The
    courier inherits it: no new owner can start while an old courier could still send.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """Return the open descriptor, for a child to inherit."""
        if self._descriptor is None:
            raise RuntimeError("the folder is not locked")
        return self._descriptor

    def acquire(self, wait_s: float = _LOCK_WAIT_S) -> None:
        """Take the lock, waiting a few seconds for a broker that is on its way out."""
        descriptor = _create_lock_file(self._path)
        deadline = time.monotonic() + wait_s
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise Locked(
                    f"Another broker is using {self._path.parent}. "
                    "Stop it first, or give this one a BROKER_STORE of its own."
                )
            time.sleep(0.02)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give up this process's hold."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _create_lock_file(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unusable(
            f"The data folder {path.parent} cannot be written ({error.strerror}). "
            f"Make it writable for user {os.getuid()}, or set BROKER_STORE to another place."
        ) from None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_writer(path: Path, *, replica: bool = False) -> sqlite3.Connection:
    """Open the file for the one who writes it, at the newest schema.

    A replica has what it needs elsewhere as well, and its schema is not this broker's to choose.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in (*_PRAGMAS, *(_REPLICA_PRAGMAS if replica else ())):
            connection.execute(f"PRAGMA {pragma}")
        if not replica:
            migrate(connection, newest_schema())
            if connection.execute(SQL["log_id"]).fetchone() is None:
                connection.execute(SQL["insert_log"], (secrets.token_hex(4), time.time()))
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def usable(path: Path) -> Iterator[None]:
    """Tell of any fault of the file as Unusable."""
    try:
        yield
    except sqlite3.Error as error:
        raise Unusable(
            f"{path} cannot be used as a store: {error}. If it is a broker's, make it writable for "
            f"user {os.getuid()} or restore a backup; else set BROKER_STORE to another place."
        ) from None


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for reading beside the writer."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA cache_size=-16384")
    return connection


def open_untouched(path: Path, *, alone: bool) -> sqlite3.Connection:
    """Open the file for reading, without changing it. Raises Unusable.

    `alone` says that nobody else uses it. Without a write-ahead log it then needs no files beside
    it, so that the folder may be one that cannot be written.
    """
    log = path.with_name(path.name + "-wal")
    logged = log.exists() and log.stat().st_size > 0
    mode = "immutable=1" if alone and not logged else "mode=ro"
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, isolation_level=None)
        connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise Unusable(f"{path} cannot be read as a store: {error}.") from None
    return connection


def is_read_only(folder: Path) -> bool:
    """Say whether a folder's file system takes no writes, whoever asks."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def schema_of(connection: sqlite3.Connection) -> int:
    """Return the schema a file has. Raises Unusable where this broker does not know it."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    newest = newest_schema()
    if version > newest:
        raise Unusable(
            f"The store was written by a newer broker (schema {version}, this one knows "
            f"{newest}). Run that version, or restore a backup."
        )
    return int(version)


def newest_schema() -> int:
    """Return the schema that this broker writes."""
    return max(number for number, _ in migrations())


def migrate(connection: sqlite3.Connection, schema: int) -> None:
    """Bring a file to a schema. Raises Unusable where the file has one that is newer than known."""
    version = schema_of(connection)
    for number, script in migrations():
        if version < number <= schema:
            connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
