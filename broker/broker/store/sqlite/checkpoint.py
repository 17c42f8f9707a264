"""Moving committed pages from the write-ahead log into the file, off the event loop."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from broker.store.sqlite.connection import PAGE_BYTES, open_reader

POLL_S = 1.0
# A log of more frames than this is made to start over; until then it starts over only if the writer
# happens to pause. 4,096 frames are 32 MiB.
RESTART_FRAMES = 4096
# A log file that a burst, or a long reader, made larger than this is cut once it is no longer
# needed. Until then the disk may look full, and a broker that refuses messages has nothing to
# write that would make the log start over.
SHRINK_BYTES = RESTART_FRAMES * PAGE_BYTES
# Filling less than this in a second, the log takes so long to grow again that cutting costs little.
QUIET_FRAMES = RESTART_FRAMES // 8
# For this long at most, a start over holds up the writer. Left to SQLite's usual 5 s, one long
# reader beside the broker would make its next commit fail.
RESTART_WAIT_MS = 50


class Checkpointer:
    """A thread that checkpoints about once a second while there is something to do.

    A PASSIVE checkpoint copies the bulk without holding up the writer, but never catches up with
    one that does not pause; the RESTART that follows holds it up for the few pages that are left.
    While a long reader, a backup for one, needs the log as it is, the log grows.
    `writing` is the lock that the writer holds during a transaction.
    """

    def __init__(self, path: Path, commits: Callable[[], int], writing: threading.Lock) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._commits = commits
        self._writing = writing
        self._seen = 0
        self._copied = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for a checkpoint under way."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = open_reader(self._path)
        connection.execute("PRAGMA query_only=OFF")
        connection.execute(f"PRAGMA busy_timeout={RESTART_WAIT_MS}")
        with contextlib.closing(connection):
            while not self._stop.wait(POLL_S):
                commits = self._commits()
                if commits != self._seen:
                    self._seen = commits
                    self._checkpoint(connection)
                else:
                    self._shrink(connection)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        # One that is busy or fails loses nothing: the log stays, and the next one tries again.
        with contextlib.suppress(sqlite3.Error):
            _, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            held_by_reader = copied == self._copied
            self._copied = copied
            if frames > RESTART_FRAMES and not held_by_reader:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # what came during the first
                with self._writing:
                    connection.execute("PRAGMA wal_checkpoint(RESTART)")
            elif frames < QUIET_FRAMES:
                self._shrink(connection)

    def _shrink(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error, FileNotFoundError):
            if self._log.stat().st_size <= SHRINK_BYTES:
                return
            # Copying a long log takes its time, and holds up nobody.
            _, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if copied == frames:
                with self._writing:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
